import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectHttp2, EchoService, echo, envelope, startServer } from "#shared/testing";
import { connectionHeaders } from "./connection-headers.ts";

const headers = { "content-type": "application/grpc", te: "trailers" };

for (const fast_path of [true, false]) {
  test(`a handler that speaks of the connection is not heard, and no harm comes of it, with fast_path: ${fast_path}`, async (t) => {
    const own = new Headers({ "x-own": "1" });
    for (const name of connectionHeaders) own.set(name, "1");
    const server = await startServer(t, {
      config: { fast_path },
      routes: (router) =>
        router.service(EchoService, {
          ...echo,
          echo(request, { responseTrailer }) {
            for (const [name, value] of own) responseTrailer.set(name, value);
            return request;
          },
          read() {
            throw new ConnectError("no such thing", Code.NotFound, own);
          },
          async *chat(requests, { responseTrailer }) {
            for (const [name, value] of own) responseTrailer.set(name, value);
            yield* requests;
          },
        }),
    });
    const client = await connectHttp2(t, server.url);
    for (const [method, status] of [
      ["Echo", "0"],
      ["Read", "5"],
      ["Chat", "0"],
    ]) {
      const answer = await client.call(`/${EchoService.typeName}/${method}`, headers, envelope(""));
      const { trailers } = answer;
      assert.deepEqual([trailers["grpc-status"], trailers["x-own"]], [status, "1"], method);
      for (const name of connectionHeaders) assert.equal(trailers[name], undefined, method);
    }
  });
}
