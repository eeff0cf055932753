import { badUtf8, book, br, connectAnswer, gzip, headers, hugeBook, largeBook, noMessage } from "./messages.ts";
import type { Step } from "./scripted-server.ts";

const PROTO = "application/proto";
const JSON_TYPE = "application/json";
const good = connectAnswer(200, PROTO, book);
const length = (bytes: number) => ["content-length", `${bytes}`] as const;

function errorAnswer(status: number, json: unknown, ...more: (readonly [string, string])[]): Step[] {
  const text = typeof json === "string" ? json : JSON.stringify(json);
  return connectAnswer(status, JSON_TYPE, Buffer.from(text), ["x-h", "1"], ["trailer-x-t", "2"], ...more);
}

/** What a peer may answer to a unary call of Connect, over any version of HTTP. */
export const connectAnswers: Record<string, readonly Step[]> = {
  "a good answer": good,
  "a good answer with its length": connectAnswer(200, PROTO, book, length(book.length)),
  "a good answer, byte by byte": [
    { headers: headers(200, PROTO) },
    ...[...book].flatMap((byte) => [{ data: Uint8Array.of(byte) }, "flush" as const]),
    { data: new Uint8Array(), isEnd: true },
  ],
  "an empty message": connectAnswer(200, PROTO, new Uint8Array()),
  "an empty message in the headers": [{ headers: headers(200, PROTO), isEnd: true }],
  "a large message": connectAnswer(200, PROTO, largeBook),
  "headers and trailers": connectAnswer(
    200,
    PROTO,
    book,
    ["x-h", "1"],
    ["x-h", "2"],
    ["trailer-x-t", "1"],
    ["trailer-x-t", "2"],
    ["x-b-bin", "AAE"],
  ),
  "trailers of HTTP": [{ headers: headers(200, PROTO) }, { data: book }, { headers: [["x-t", "1"]], isEnd: true }],
  "a length that is too short": connectAnswer(200, PROTO, book, length(3)),
  "a length that is too long": connectAnswer(200, PROTO, book, length(300)),
  "a length that is too large": connectAnswer(200, PROTO, book, length(30_000)),
  "a message that is too large": connectAnswer(200, PROTO, hugeBook),
  "a message that is too large and has no end": [{ headers: headers(200, PROTO) }, { data: hugeBook }],
  "a message that is too large, with its length": connectAnswer(200, PROTO, hugeBook, length(hugeBook.length)),
  "no message": connectAnswer(200, PROTO, noMessage),
  "bad UTF-8": connectAnswer(200, PROTO, badUtf8),
  "a gzip message": connectAnswer(200, PROTO, gzip(book), ["content-encoding", "gzip"]),
  "a gzip message with its length": connectAnswer(
    200,
    PROTO,
    gzip(book),
    ["content-encoding", "gzip"],
    length(gzip(book).length),
  ),
  "a brotli message": connectAnswer(200, PROTO, br(book), ["content-encoding", "br"]),
  "a gzip message that is too large": connectAnswer(200, PROTO, gzip(hugeBook), ["content-encoding", "gzip"]),
  "a message that is no gzip": connectAnswer(200, PROTO, book, ["content-encoding", "gzip"]),
  "an empty gzip message": connectAnswer(200, PROTO, new Uint8Array(), ["content-encoding", "gzip"]),
  "an encoding that nobody knows": connectAnswer(200, PROTO, book, ["content-encoding", "zip"]),
  "the encoding identity": connectAnswer(200, PROTO, book, ["content-encoding", "identity"]),
  "an error": errorAnswer(404, { code: "not_found", message: "no book" }),
  "an error with details": errorAnswer(404, {
    code: "not_found",
    message: "no book",
    details: [{ type: "google.protobuf.StringValue", value: "CgN3aHk", debug: { value: "why" } }],
  }),
  "an error with details that are none": errorAnswer(404, { code: "not_found", details: [1] }),
  "an error with details that are no base64": errorAnswer(404, {
    code: "not_found",
    details: [{ type: "a", value: "%" }],
  }),
  "an error that is compressed": connectAnswer(404, JSON_TYPE, gzip(Buffer.from('{"code":"not_found"}')), [
    "content-encoding",
    "gzip",
  ]),
  "an error of an encoding that nobody knows": errorAnswer(404, { code: "not_found" }, ["content-encoding", "zip"]),
  "an error with an unknown code": errorAnswer(404, { code: "whatever", message: "no" }),
  "an error without a code": errorAnswer(404, { message: "no" }),
  "an error with a number for a code": errorAnswer(404, { code: 5, message: "no" }),
  "an error that is empty": errorAnswer(404, {}),
  "an error without a body": connectAnswer(404, JSON_TYPE, new Uint8Array()),
  "an error that is too large": errorAnswer(404, { code: "not_found", message: "x".repeat(2_000) }),
  "an error of status 200": errorAnswer(200, { code: "not_found", message: "no book" }),
  "closed in the middle of the body": [
    { headers: headers(200, PROTO) },
    { data: book.subarray(0, 3) },
    "flush",
    "close",
  ],
  "closed before an answer": ["close"],
  "a good answer, then closed": [...good, "flush", "close"],
};

const codes = ["canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists"];
codes.push("permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range");
codes.push("unimplemented", "internal", "unavailable", "data_loss", "unauthenticated", "cancelled", "OK", "ok", "");
for (const code of codes) connectAnswers[`the code ${code}`] = errorAnswer(500, { code, message: "m" });
for (const status of [201, 204, 304, 400, 401, 403, 404, 408, 409, 418, 429, 499, 500, 501, 502, 503, 504]) {
  connectAnswers[`HTTP ${status} without a body`] = [
    { headers: headers(status, undefined, ["x-h", "1"]), isEnd: true },
  ];
  connectAnswers[`HTTP ${status} in HTML`] = connectAnswer(status, "text/html", Buffer.from("<p>no</p>"), [
    "trailer-x",
    "1",
  ]);
  connectAnswers[`HTTP ${status} in JSON`] = errorAnswer(status, { hello: 1 });
  connectAnswers[`HTTP ${status} in protobuf`] = connectAnswer(status, PROTO, book);
}
for (const type of [
  undefined,
  "",
  "text/plain",
  JSON_TYPE,
  "application/connect+proto",
  "APPLICATION/PROTO",
  "application/proto; charset=utf-8",
  "application/grpc",
]) {
  connectAnswers[`content type ${type}`] = connectAnswer(200, type, book);
}
for (const text of ["", "x", "-1", "1e1", ` ${book.length}`, `${book.length}.5`]) {
  connectAnswers[`the length ${JSON.stringify(text)}`] = connectAnswer(200, PROTO, book, ["content-length", text]);
}
