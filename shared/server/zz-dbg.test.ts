import { test } from "node:test";
import { connectHttp2, startServer } from "#shared/testing";
test("dbg", async (t) => {
  const server = await startServer(t, { config: { shutdown_timeout: "20s" } });
  const { session, call } = await connectHttp2(t, server.url);
  await call("/livez", { ":method": "GET" });
  const s = performance.now();
  const ev = (n: string) => () => console.log(n, performance.now() - s);
  for (const e of ["goaway", "close", "ping", "end"]) session.on(e, ev("client " + e));
  session.socket.on?.("close", ev("client socket close"));
  await server.stop();
  ev("stopped")();
  console.log(session.closed, session.destroyed);
});
