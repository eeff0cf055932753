import assert from "node:assert/strict";
import { test } from "node:test";
import { REDACTED, redactLine } from "./redact.ts";

function redacted(value: unknown): unknown {
  return JSON.parse(redactLine(`${JSON.stringify(value)}\n`));
}

function redactedText(text: string): unknown {
  return (redacted({ msg: text }) as { msg: string }).msg;
}

test("the values of secret keys are taken out, in any spelling and at any depth", () => {
  const keys = [
    ...["password", "dbPassword", "db_password", "PASSWORD", "passwd", "pwd", "passphrase", "secret", "client_secret"],
    ...[
      "token",
      "tokens",
      "accessToken",
      "refresh_token",
      "id-token",
      "x-api-key",
      "access_key",
      "api_key",
      "apiKey",
      "privateKey",
    ],
    ...["authorization", "Authorization", "proxy-authorization", "cookie", "set-cookie", "credentials"],
  ];
  for (const key of keys) {
    assert.deepEqual(redacted({ [key]: "hunter2", a: 1 }), { [key]: REDACTED, a: 1 });
    assert.deepEqual(redacted({ a: [{ b: { [key]: "hunter2" } }], c: "d" }), {
      a: [{ b: { [key]: REDACTED } }],
      c: "d",
    });
  }
});

test("keys that only look like it are left alone", () => {
  const value = {
    page_token: "a",
    nextPageToken: "b",
    token_count: 5,
    max_tokens: 7,
    key: "c",
    routing_key: "d",
    ordering_key: "e",
    author: "f",
    idempotency_key: "g",
    cookies_enabled: true,
    msg: "no token: here, nor a password",
  };
  assert.deepEqual(redacted(value), value);
});

test("a secret of any JSON type goes whole, and nothing else with it", () => {
  const values = [
    "",
    'a"b\\',
    "]},{[",
    5,
    -1.5e9,
    true,
    null,
    [],
    {},
    ["a", { b: "]" }],
    { a: { b: ['"', "}"] }, c: 1 },
  ];
  for (const value of values) {
    assert.deepEqual(redacted({ a: 1, token: value, b: "x" }), { a: 1, token: REDACTED, b: "x" });
    assert.deepEqual(redacted([{ token: value }, 1]), [{ token: REDACTED }, 1]);
  }
});

test("JSON inside a string is covered too", () => {
  const inner = { user: "ada", password: 'a"b\\c', list: ["x"], token: { a: "b" }, n: 1 };
  const text = redactedText(`body was ${JSON.stringify(inner)}, sorry`);
  assert.equal(text, `body was ${JSON.stringify({ ...inner, password: REDACTED, token: REDACTED })}, sorry`);
});

test("JSON that was cut off inside a string takes nothing else along", () => {
  assert.deepEqual(redacted({ msg: '{"password":"hunt', next: "kept" }), {
    msg: `{"password":"${REDACTED}"`,
    next: "kept",
  });
  assert.deepEqual(redacted({ msg: '{"password":{"a":1', next: "kept" }), {
    msg: `{"password":"${REDACTED}"`,
    next: "kept",
  });
});

test("a redacted line is still JSON, whatever was in it", () => {
  const pieces = [
    '"',
    "\\",
    ":",
    "{",
    "}",
    "[",
    "]",
    ",",
    "token",
    '"token":',
    "amqp://",
    "a@b",
    "\n",
    "Bearer x",
    "password=",
    "5",
  ];
  let seed = 1;
  const next = (limit: number) => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % limit;
  };
  for (let i = 0; i < 20_000; i++) {
    const msg = Array.from({ length: next(10) }, () => pieces[next(pieces.length)]).join("");
    const line = redacted({ token: msg, msg, nested: JSON.stringify({ secret: msg, msg }), last: "kept" });
    assert.equal((line as { last: string }).last, "kept", msg);
    assert.equal((line as { token: string }).token, REDACTED, msg);
  }
});

test("credentials in connection strings are taken out, wherever they stand", () => {
  const given = {
    "amqp://guest:guest@host": `amqp://${REDACTED}@host`,
    "cannot reach amqp://guest:guest@localhost:5672/%2f: refused": `cannot reach amqp://${REDACTED}@localhost:5672/%2f: refused`,
    "postgres://u:p@ss@w0rd@db:5432/app?x=1": `postgres://${REDACTED}@db:5432/app?x=1`,
    "postgres://u:pa/ss?w#d@db/app": `postgres://${REDACTED}@db/app`,
    "postgres://u:a\\b@db": `postgres://${REDACTED}@db`,
    "https://token@example.com/a": `https://${REDACTED}@example.com/a`,
    "amqp://a:b@h1:5672,amqp://c:d@h2": `amqp://${REDACTED}@h1:5672,amqp://${REDACTED}@h2`,
    "mongodb+srv://u:p@h": `mongodb+srv://${REDACTED}@h`,
    "at amqp://a:b@h\nand amqp://c:d@i": `at amqp://${REDACTED}@h\nand amqp://${REDACTED}@i`,
  };
  for (const [text, expected] of Object.entries(given)) assert.equal(redactedText(text), expected);
});

test("URLs without credentials stay as they are", () => {
  const texts = [
    "http://localhost:8080/users/ada@example.com",
    "http://host/path?mail=a@b.c",
    "type.googleapis.com://x y@z",
    "file:///tmp/a@b.ts:1:2",
    "see http://a.b and mail c@d.e",
    "://",
  ];
  for (const text of texts) assert.equal(redactedText(text), text);
});

test("bearer tokens and password=… are taken out of text", () => {
  assert.equal(redactedText("got Bearer eyJh.b-c_d/e+f== from"), `got Bearer ${REDACTED} from`);
  assert.equal(redactedText("authorization: bearer abc"), `authorization: bearer ${REDACTED}`);
  assert.equal(redactedText("host=db password=hunter2 user=u"), `host=db password=${REDACTED} user=u`);
  assert.equal(
    redactedText("GET /a?access_token=x&b=1&page_token=y"),
    `GET /a?access_token=${REDACTED}&b=1&page_token=y`,
  );
});

test("a line without secrets is the same string", () => {
  const line = '{"level":"info","msg":"call","method":"user.v1.UserService/SayHello"}\n';
  assert.equal(redactLine(line), line);
});

// Quadratic would be minutes.
test("hostile text costs no more than its length", { timeout: 60_000 }, () => {
  const texts = [
    "://:".repeat(100_000),
    `://a:${"b".repeat(400_000)}`,
    '\\"token'.repeat(50_000),
    "token-".repeat(80_000),
  ];
  for (const text of texts) redactLine(JSON.stringify({ "api-token": 1, msg: text }));
});
