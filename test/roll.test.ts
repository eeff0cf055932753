import assert from "node:assert/strict";
import { test } from "node:test";
import { EchoService, recordLog, startServer, until, within } from "#shared/testing";
import { createTransportPool, grpcClientsSection } from "#shared/transport-pool";
import { startTcpFront } from "./support/tcp-front.ts";

for (const protocol of ["grpc", "connect", "grpc-web"]) {
  test(`under load, a pool's ${protocol} calls all succeed while servers are rolled one by one`, async (t) => {
    const servers = [];
    for (let i = 0; i < 4; i++) servers.push(await startServer(t, { config: { shutdown_timeout: "10s" } }));
    const front = await startTcpFront();
    t.after(() => front.close());
    front.pointTo(servers[0]?.port ?? 0);
    const pool = createTransportPool(
      grpcClientsSection.parse({ services: [{ name: "echo", address: `127.0.0.1:${front.port}`, protocol }] }),
      { logger: recordLog("silent").logger, caller: "test" },
    );
    t.after(() => pool.close());
    const client = pool.client("echo", EchoService);

    let isOver = false;
    let calls = 0;
    const callers = Array.from({ length: 20 }, async () => {
      while (!isOver) {
        const value = String(calls);
        assert.equal((await client.echo({ value })).value, value);
        calls++;
      }
    });
    const load = Promise.all(callers);
    const more = (count: number) => {
      const enough = calls + count;
      return Promise.race([load, until("more calls", () => calls >= enough)]);
    };
    for (const [index, server] of servers.slice(0, -1).entries()) {
      await more(200);
      front.pointTo(servers[index + 1]?.port ?? 0);
      await within(server.stop(), "the stop");
    }
    await more(200);
    isOver = true;
    await load;
  });
}
