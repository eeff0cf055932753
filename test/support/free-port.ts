import { randomInt } from "node:crypto";
import { once } from "node:events";
import net from "node:net";

/** Below what Linux gives to port 0 and to outgoing connections, so that nothing takes it until it is listened on. */
const LOWEST = 12_000;
const HIGHEST = 32_000;
const ATTEMPTS = 50;

/**
 * A port on which nothing listens. For what has to be known before its server starts, or after it has stopped: two
 * services that call each other, a restart at the same address.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = randomInt(LOWEST, HIGHEST);
    if (await isFree(port)) return port;
  }
  throw new Error(`no free port between ${LOWEST} and ${HIGHEST} in ${ATTEMPTS} attempts`);
}

async function isFree(port: number): Promise<boolean> {
  const server = net.createServer();
  try {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
  } catch {
    return false;
  }
  server.close();
  await once(server, "close");
  return true;
}
