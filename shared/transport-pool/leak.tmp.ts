import http2 from "node:http2"; import { once, getEventListeners } from "node:events";
const { connectNodeAdapter } = await import("/work/main/node_modules/@connectrpc/connect-node/dist/esm/index.js");
const { createTransportPool, grpcClientsSection } = await import("/work/main/shared/transport-pool/index.ts");
const { createLogger } = await import("/work/main/shared/logging/index.ts");
const { runInCall } = await import("/work/main/shared/call-context/index.ts");
const { BookService } = await import("/work/main/gen/book/v1/book_pb.ts");
const server = http2.createServer(connectNodeAdapter({ routes: (r: any) => r.service(BookService, { getBook: () => ({}) }) })).listen(0);
await once(server, "listening");
const logger = createLogger({ name: "t", config: { level: "info", format: "json" } });
const pool = createTransportPool(grpcClientsSection.parse({ services: [{ name: "b", address: "127.0.0.1:" + (server.address() as any).port }] }), { logger, caller: "t" });
const books = pool.client("b", BookService);
const own = new AbortController().signal, incoming = new AbortController().signal;
const call = { method: "m", requestId: "r", trace: { traceId: "0".repeat(31) + "1", spanId: "1".repeat(16), flags: 1 }, signal: incoming };
await runInCall(call, async () => {
  for (let n = 0; n < 100_000; n += 20) {
    await Promise.all(Array.from({ length: 20 }, () => books.getBook({ id: "x" }, { signal: own })));
    if (n % 20_000 === 0) { globalThis.gc!(); await new Promise((r) => setImmediate(r)); globalThis.gc!();
      const sym = Object.getOwnPropertySymbols(own).find((s) => s.description === "kDependantSignals")!;
      console.log(n, (process.memoryUsage().heapUsed / 1e6).toFixed(1), "MB", getEventListeners(own, "abort").length, (own as any)[sym]?.size, (process.cpuUsage().user / 1e6).toFixed(1)); }
  }
});
globalThis.gc!(); const m = process.memoryUsage().heapUsed; console.log("end", (m / 1e6).toFixed(1)); await pool.close(); server.close();
