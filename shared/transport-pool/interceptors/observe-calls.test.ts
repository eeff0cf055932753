import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { EchoService } from "#shared/testing";
import type { CallRecord } from "../index.ts";
import { failureOf, startPeer, startPool, until } from "../test-support.ts";

for (const fast_path of [true, false]) {
  test(`observers see each call when it begins and ends, fast_path: ${fast_path}`, async (t) => {
    const peer = await startPeer(t, (router) =>
      router.service(EchoService, {
        echo({ value }, { requestHeader }) {
          if (value === "retry" && !requestHeader.has("grpc-previous-rpc-attempts")) {
            throw new ConnectError("again", Code.Unavailable);
          }
          if (value === "fail") throw new ConnectError("no", Code.NotFound);
          return { value };
        },
        async *expand() {
          yield { value: "a" };
          yield { value: "b" };
        },
      }),
    );
    const told: string[] = [];
    const ended: CallRecord[] = [];
    const observers = [
      {
        begin: ({ method, attempts }: CallRecord) => told.push(`begin ${method.name} ${attempts}`),
        end(record: CallRecord) {
          told.push(`end ${record.method.name} ${record.failure?.code ?? "ok"}`);
          ended.push(record);
        },
      },
      {
        end() {
          throw new Error("an observer that fails");
        },
      },
    ];
    const retry = { max: 1, backoff: "1ms" };
    const methods = { "testing.v1.EchoService/Echo": { retry } };
    const service = { address: peer.address, methods, fast_path };
    const { pool, lines } = startPool(t, service, { observers });
    const echo = pool.client("book-service", EchoService);
    await echo.echo({ value: "retry" });
    await failureOf(echo.echo({ value: "fail" }));
    for await (const _ of echo.expand({ value: "" }));
    await until(() => ended.length === 3);
    assert.deepEqual(told, [
      "begin Echo 0",
      "end Echo ok",
      "begin Echo 0",
      `end Echo ${Code.NotFound}`,
      "begin Expand 0",
      "end Expand ok",
    ]);
    const [retried, , stream] = ended;
    assert.deepEqual([retried?.attempts, retried?.furtherAttempts], [2, ["retry"]]);
    assert.deepEqual([retried?.service, retried?.peer], ["book-service", peer.address]);
    assert.deepEqual([retried?.protocol, retried?.httpVersion], ["grpc", "2"]);
    // Twice the frame of "retry", and once its echo.
    assert.deepEqual([retried?.requestBytes, retried?.responseBytes], [24, 12]);
    assert.deepEqual([stream?.requestBytes, stream?.responseBytes], [5, 16]);
    assert.equal(lines.filter(({ msg }) => msg === "call observer failed").length, 3);
  });
}
