import assert from "node:assert/strict";
import { test } from "node:test";
import { startHttp1Pair, withoutWords } from "./compare.ts";
import { connectAnswers } from "./connect-answers.ts";
import { book, gzip } from "./messages.ts";
import { close, flush, type Http1Step, reset, toHttp1 } from "./scripted-http1-server.ts";

const type = "content-type: application/proto\r\n";
const ok = `HTTP/1.1 200 OK\r\n${type}`;
const length = `content-length: ${book.length}\r\n`;
const chunked = "transfer-encoding: chunked\r\n";
const size = book.length.toString(16);
const good: Http1Step[] = [`${ok}${length}\r\n`, book];

const answers: Record<string, readonly Http1Step[]> = {
  "a good answer of one packet": good,
  "a good answer, byte by byte": [...Buffer.concat([Buffer.from(`${ok}${length}\r\n`), book])].flatMap((byte) => [
    Uint8Array.of(byte),
    flush,
  ]),
  "a good answer in chunks, byte by byte": [
    ...Buffer.concat([Buffer.from(`${ok}${chunked}\r\n${size}\r\n`), book, Buffer.from("\r\n0\r\n\r\n")]),
  ].flatMap((byte) => [Uint8Array.of(byte), flush]),
  "chunks of odd sizes": [
    `${ok}${chunked}\r\n1\r\n`,
    book.subarray(0, 1),
    "\r\n",
    flush,
    "00003;a=b\r\n",
    book.subarray(1, 4),
    flush,
    `\r\n${(book.length - 4).toString(16).toUpperCase()}\r\n`,
    book.subarray(4),
    "\r\n0\r\n\r\n",
  ],
  "chunks, and trailers after them": [
    `${ok}${chunked}\r\n${size}\r\n`,
    book,
    "\r\n0\r\nx-t: 1\r\ntrailer-x: 2\r\n\r\n",
  ],
  "chunks, and a trailer that is none": [`${ok}${chunked}\r\n${size}\r\n`, book, "\r\n0\r\nwhat\r\n\r\n"],
  "chunks without an end": [`${ok}${chunked}\r\n${size}\r\n`, book, "\r\n", flush, close],
  "a chunk without a size": [`${ok}${chunked}\r\n\r\n`, book],
  "a chunk of a size that is none": [`${ok}${chunked}\r\nxyz\r\n`, book],
  "a chunk that is longer than it says": [`${ok}${chunked}\r\n2\r\n`, book, "\r\n0\r\n\r\n"],
  "a body that ends with the connection": [`${ok}\r\n`, book, flush, close],
  "a body that ends with the connection, at once": [`${ok}\r\n`, book, close],
  "a body that ends with the connection, which is reset": [`${ok}\r\n`, book, flush, reset],
  "a length that is too long": [`${ok}content-length: 300\r\n\r\n`, book, flush, close],
  "a length that is too short": [`${ok}content-length: 3\r\n\r\n`, book],
  "two lengths": [`${ok}${length}${length}\r\n`, book],
  "two lengths in one": [`${ok}content-length: 13, 13\r\n\r\n`, book],
  "a length and chunks": [`${ok}${length}${chunked}\r\n${size}\r\n`, book, "\r\n0\r\n\r\n"],
  "chunks, and a length": [`${ok}${chunked}${length}\r\n${size}\r\n`, book, "\r\n0\r\n\r\n"],
  "chunks in capitals": [`${ok}TRANSFER-ENCODING: CHUNKED\r\n\r\n${size}\r\n`, book, "\r\n0\r\n\r\n"],
  "connection: close": [`${ok}${length}connection: close\r\n\r\n`, book, close],
  "connection: close, and no close": [`${ok}${length}connection: Close\r\n\r\n`, book],
  "keep-alive": [`${ok}${length}connection: keep-alive\r\nkeep-alive: timeout=5, max=3\r\n\r\n`, book],
  "HTTP/1.0": [`HTTP/1.0 200 OK\r\n${type}${length}\r\n`, book],
  "HTTP/1.0 without a length": [`HTTP/1.0 200 OK\r\n${type}\r\n`, book, close],
  "HTTP/0.9": [book, close],
  "HTTP/3.0": [`HTTP/3.0 200 OK\r\n${type}${length}\r\n`, book],
  "no reason": [`HTTP/1.1 200\r\n${type}${length}\r\n`, book],
  "an empty reason": [`HTTP/1.1 200 \r\n${type}${length}\r\n`, book],
  "a status of two digits": [`HTTP/1.1 20 OK\r\n${type}${length}\r\n`, book],
  "a status of four digits": [`HTTP/1.1 2000 OK\r\n${type}${length}\r\n`, book],
  "no HTTP": ["what?\r\n\r\n"],
  "the banner of SSH, and then nothing": ["SSH-2.0-OpenSSH\r\n"],
  "the banner of SSH, byte by byte": [..."SSH-"].flatMap((byte) => [byte, flush]),
  "the settings of HTTP/2, and then nothing": [Uint8Array.of(0, 0, 0, 4, 0, 0, 0, 0, 0)],
  "another status line, and then nothing": ["HTTP/1.1 OK\r\n"],
  "a header without a colon, and then nothing": ["HTTP/1.1 200 OK\r\n", flush, "what\r\n"],
  "a header without a colon that comes in two, and then nothing": ["HTTP/1.1 200 OK\r\nx: 1\r\nwh", flush, "at\r\n"],
  nothing: [close],
  "nothing, and a reset": [reset],
  "an empty line before the answer": ["\r\n", ...good],
  "100 Continue, and then the answer": ["HTTP/1.1 100 Continue\r\n\r\n", ...good],
  "103 Early Hints, and then the answer": ["HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", flush, ...good],
  "a second answer": [...good, ...good],
  "more than it says": [...good, "and more"],
  "an empty line after the answer": [...good, "\r\n"],
  "names in capitals, and blanks": [
    `HTTP/1.1 200 OK\r\nCONTENT-TYPE:application/proto\t \r\nContent-Length:  ${book.length}\r\nX-H:\t a  b \t\r\n\r\n`,
    book,
  ],
  "a name that comes twice": [`${ok}${length}x-h: 1\r\nX-H: 2\r\n\r\n`, book],
  "a content type that comes twice": [`${ok}${length}content-type: text/html\r\n\r\n`, book],
  cookies: [`${ok}${length}set-cookie: a=1\r\nset-cookie: b=2\r\ncookie: c\r\ncookie: d\r\n\r\n`, book],
  "names that mean something in JavaScript": [`${ok}${length}constructor: 1\r\ntoString: 2\r\n\r\n`, book],
  "a header without a colon": [`${ok}${length}what\r\n\r\n`, book],
  "a header without a name": [`${ok}${length}: 1\r\n\r\n`, book],
  "a header with a blank before the colon": [`${ok}${length}x-h : 1\r\n\r\n`, book],
  "a header with a blank in its name": [`${ok}${length}x h: 1\r\n\r\n`, book],
  "a header of Latin-1": [`${ok}${length}x-h: caf\xe9 \xa0\r\n\r\n`, book],
  "a header with a zero": [`${ok}${length}x-h: \0\r\n\r\n`, book],
  "a header with a CR": [`${ok}${length}x-h: a\rb: c\r\n\r\n`, book],
  "lines that end with LF": [`${ok}${length}x-h: a\nx-i: b\r\n\r\n`, book],
  "an empty header": [`${ok}${length}x-h:\r\n\r\n`, book],
  "large headers": [`${ok}${length}x-h: ${"x".repeat(10_000)}\r\n\r\n`, book],
  "headers that are too large": [`${ok}${length}x-h: ${"x".repeat(20_000)}\r\n\r\n`, book],
  "headers without an end that are too large": [`${ok}x-h: ${"x".repeat(20_000)}`],
  "a body of 204": [`HTTP/1.1 204 No Content\r\n${type}${length}\r\n`, book],
  "a gzip message in chunks": [
    `${ok}content-encoding: gzip\r\n${chunked}\r\n`,
    gzip(book).length.toString(16),
    "\r\n",
    gzip(book),
    "\r\n0\r\n\r\n",
  ],
};
/** Over HTTP/1.1 they have no body, and so no error in it; Connect has their headers twice in the metadata then. */
const WITHOUT_BODY = ["HTTP 204 in JSON", "HTTP 304 in JSON"];
for (const [name, script] of Object.entries(connectAnswers)) {
  if (!WITHOUT_BODY.includes(name)) answers[`as over HTTP/2: ${name}`] = toHttp1(script);
}

for (const [name, script] of Object.entries(answers)) {
  test(`Connect over HTTP/1.1: ${name} means what it means to stock Connect`, async (t) => {
    const pair = await startHttp1Pair(t);
    const stock = await pair.stock(script);
    assert.deepEqual(withoutWords(await pair.own(script)), withoutWords(stock));
  });
}
