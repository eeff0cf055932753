import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Answer, connectHttp2, dialects, EchoService, echo, envelope, startServer } from "#shared/testing";

const PATH = `/${EchoService.typeName}/Echo`;
const SHOP = "https://shop.example";
const CORS_HEADERS = ["vary", "access-control-allow-origin", "access-control-expose-headers"];

const corsOf = ({ headers }: Answer) => CORS_HEADERS.map((name) => headers[name]);

for (const fast_path of [true, false]) {
  const name = (what: string) => `${what}, with fast_path: ${fast_path}`;

  async function start(t: Parameters<typeof startServer>[0]) {
    let fails = false;
    const server = await startServer(t, {
      config: { fast_path },
      cors: { origin: [SHOP], exposedHeaders: ["x-own"], allowedHeaders: ["content-type"], methods: ["POST"] },
      routes: (router) =>
        router.service(EchoService, {
          ...echo,
          echo(request) {
            if (fails) throw new ConnectError("no such thing", Code.NotFound);
            return request;
          },
        }),
    });
    const client = await connectHttp2(t, server.url);
    const failFromNowOn = () => {
      fails = true;
    };
    return { client, failFromNowOn };
  }

  test(name("a page's call is answered with what its browser has to know, also when it fails"), async (t) => {
    const { client, failFromNowOn } = await start(t);
    const call = (origin: string, { contentType, body } = dialects.grpcWeb) =>
      client.call(PATH, { "content-type": contentType, origin }, body(""));
    assert.deepEqual(corsOf(await call(SHOP)), ["Origin", SHOP, "x-own"]);
    assert.deepEqual(corsOf(await call("https://evil.example")), ["Origin", undefined, "x-own"]);
    failFromNowOn();
    for (const dialect of [dialects.grpcWeb, dialects.connect] as const) {
      const headers = { "content-type": dialect.contentType, origin: SHOP };
      const answer = await client.call(PATH, headers, dialect.body(""));
      assert.deepEqual(corsOf(answer), ["Origin", SHOP, "x-own"], dialect.name);
    }
  });

  test(name("a page may ask first, and a path that does not exist has the same headers"), async (t) => {
    const { client } = await start(t);
    const asked = { origin: SHOP, "access-control-request-method": "POST", ":method": "OPTIONS" };
    const preflight = await client.call(PATH, asked);
    assert.equal(preflight.status, 204);
    assert.deepEqual(corsOf(preflight), ["Origin", SHOP, "x-own"]);
    assert.equal(preflight.headers["access-control-allow-methods"], "POST");
    const unknown = await client.call("/none", { "content-type": "application/json", origin: SHOP }, "{}");
    assert.equal(unknown.status, 404);
    assert.deepEqual(corsOf(unknown), ["Origin", SHOP, "x-own"]);
  });

  test(name("a call that comes from no page has its answer"), async (t) => {
    const { client } = await start(t);
    const { status, trailers, body } = await client.call(
      PATH,
      { "content-type": "application/grpc" },
      envelope("\n\x01a"),
    );
    assert.deepEqual([status, trailers["grpc-status"], body], [200, "0", envelope("\n\x01a")]);
  });
}

test("a call that comes from no page is spared the headers of those that do", async (t) => {
  const server = await startServer(t, { config: { fast_path: true }, cors: { origin: [SHOP] } });
  const client = await connectHttp2(t, server.url);
  const answer = await client.call(PATH, { "content-type": "application/grpc" }, envelope(""));
  assert.deepEqual(corsOf(answer), [undefined, undefined, undefined]);
});
