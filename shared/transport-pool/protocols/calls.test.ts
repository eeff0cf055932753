import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code, ConnectError, type Interceptor, type UnaryRequest } from "@connectrpc/connect";
import { BookService, GetBookRequestSchema } from "#gen/book/v1/book_pb.ts";
import { failureOf, type Routes, startHttp1Peer, startPeer, startPool } from "../test-support.ts";

/** Answers what it was asked. */
const routes: Routes = (router) => {
  router.service(BookService, {
    getBook: ({ id }, { requestHeader, responseHeader, responseTrailer, url }) => {
      responseHeader.set("x-echo", requestHeader.get("x-own") ?? "none");
      responseHeader.set("x-path", new URL(url).pathname);
      responseTrailer.set("x-trailer", requestHeader.get("user-agent") ?? "none");
      return { book: { id } };
    },
  });
};

const wires = [
  { protocol: "grpc", http: "2" },
  { protocol: "connect", http: "2" },
  { protocol: "connect", http: "1.1" },
] as const;

for (const { protocol, http } of wires) {
  const wire = `${protocol} over HTTP/${http}`;
  const startServer = async (t: TestContext): Promise<{ readonly address: string }> =>
    http === "2" ? await startPeer(t, routes) : { address: await startHttp1Peer(t, routes) };

  test(`${wire}: an interceptor sees a request as stock Connect makes it`, async (t) => {
    const peer = await startServer(t);
    let seen: UnaryRequest | undefined;
    const watch: Interceptor = (next) => (req) => {
      // While it waits for a connection, the time that is left is written anew into its own.
      if (!req.stream) seen = { ...req, header: new Headers(req.header) };
      return next(req);
    };
    const { books } = startPool(t, { address: peer.address, protocol, http }, { interceptors: [watch] });
    await books.getBook({ id: "b1" }, { headers: { "x-own": "mine" }, timeoutMs: 4_000 });
    assert.ok(seen !== undefined);
    assert.equal(seen.stream, false);
    assert.equal(seen.service, BookService);
    assert.equal(seen.method, BookService.method.getBook);
    assert.equal(seen.requestMethod, "POST");
    assert.equal(seen.url, `http://${peer.address}/book.v1.BookService/GetBook`);
    assert.equal((seen.message as { $typeName: string }).$typeName, GetBookRequestSchema.typeName);
    assert.equal(seen.header.get("x-own"), "mine");
    assert.equal(seen.header.get("x-caller"), "user-service");
    assert.match(seen.header.get("content-type") ?? "", /proto$/);
    assert.equal(seen.header.get("grpc-timeout") ?? `${seen.header.get("connect-timeout-ms")}m`, "4000m");
    // Stock Connect fires it when the call has gone well, too.
    assert.equal(seen.signal.aborted, false);
  });

  test(`${wire}: an interceptor may change headers in place, or put others, another message and signal in place`, async (t) => {
    const peer = await startServer(t);
    const leaving = new AbortController();
    const change: Interceptor = (next) => (req) => {
      if (req.stream) return next(req);
      const { id } = req.message as { id?: string };
      if (id === "in place") req.header.set("x-own", "set");
      else if (id === "copy") return next({ ...req, message: { ...req.message, id: "other" } as typeof req.message });
      else if (id === "replace") return next({ ...req, header: new Headers([...req.header, ["x-own", "replaced"]]) });
      else if (id === "signal") return next({ ...req, signal: leaving.signal });
      return next(req);
    };
    const { books } = startPool(t, { address: peer.address, protocol, http }, { interceptors: [change] });
    const headersOf = async (id: string) => {
      let header = new Headers();
      let trailer = new Headers();
      const { book } = await books.getBook(
        { id },
        {
          onHeader: (one) => {
            header = one;
          },
          onTrailer: (one) => {
            trailer = one;
          },
        },
      );
      return { echo: header.get("x-echo"), agent: trailer.get("x-trailer"), id: book?.id };
    };
    const agent = "connect-es/2.2.0";
    assert.deepEqual(await headersOf("plain"), { echo: "none", agent, id: "plain" });
    assert.deepEqual(await headersOf("in place"), { echo: "set", agent, id: "in place" });
    assert.deepEqual(await headersOf("copy"), { echo: "none", agent, id: "other" });
    assert.deepEqual(await headersOf("replace"), { echo: "replaced", agent, id: "replace" });
    leaving.abort(new ConnectError("left", Code.Aborted));
    assert.equal((await failureOf(books.getBook({ id: "signal" }))).code, Code.Aborted);
  });

  test(`${wire}: the user's headers are sent, and stay as they are`, async (t) => {
    const peer = await startServer(t);
    const { pool, books } = startPool(t, { address: peer.address, protocol, http });
    const headers = new Headers({ "x-own": "mine", "user-agent": "me" });
    let agent: string | null = null;
    const onTrailer = (trailer: Headers) => {
      agent = trailer.get("x-trailer");
    };
    await books.getBook({ id: "b1" }, { headers, onTrailer });
    assert.equal(agent, "me");
    assert.deepEqual([...headers.keys()], ["user-agent", "x-own"]);
    const { getBook } = BookService.method;
    await pool.transport("book-service").unary(getBook, undefined, undefined, headers, { id: "b1" });
    assert.deepEqual([...headers.keys()], ["user-agent", "x-own"]);
  });

  test(`${wire}: a URL of another origin is not called, one of another path is`, async (t) => {
    const peer = await startServer(t);
    let url = "http://elsewhere:1/book.v1.BookService/GetBook";
    const move: Interceptor = (next) => (req) => next({ ...req, url });
    const { books } = startPool(t, { address: peer.address, protocol, http }, { interceptors: [move] });
    assert.equal((await failureOf(books.getBook({ id: "b1" }))).code, Code.Internal);
    url = `http://${peer.address}/nothing/Here`;
    assert.equal((await failureOf(books.getBook({ id: "b1" }))).code, Code.Unimplemented);
  });

  test(`${wire}: a header that cannot be sent fails the call and nothing else`, async (t) => {
    const peer = await startServer(t);
    const spoil: Interceptor = (next) => (req) => {
      if (!req.stream && (req.message as { id?: string }).id === "bad") req.header.set("x-bad", "\u0001");
      return next(req);
    };
    const { books, pool } = startPool(t, { address: peer.address, protocol, http }, { interceptors: [spoil] });
    assert.equal((await failureOf(books.getBook({ id: "bad" }))).code, Code.Internal);
    assert.equal((await books.getBook({ id: "b1" })).book?.id, "b1");
    assert.equal(pool.states()[0]?.openCalls, 0);
    assert.equal(pool.states()[0]?.endpoints[0]?.openCalls, 0);
  });
}

test("an interceptor is applied once for each method, not for each call", async (t) => {
  const peer = await startPeer(t, routes);
  let applied = 0;
  const counting: Interceptor = (next) => {
    applied++;
    return next;
  };
  const { books } = startPool(t, { address: peer.address }, { interceptors: [counting] });
  for (let i = 0; i < 5; i++) await books.getBook({ id: "b1" });
  assert.equal(applied, 1);
});
