import assert from "node:assert/strict";
import { test } from "node:test";
import { databaseSection, describePostgres } from "./config.ts";

test("only the URL is needed", () => {
  assert.deepEqual(databaseSection.parse({ url: "pglite:.data/dev" }), {
    url: "pglite:.data/dev",
    poolSize: 10,
    statementTimeoutMs: 5_000,
    idleInTransactionTimeoutMs: 60_000,
    connectTimeoutMs: 3_000,
    probeIntervalMs: 5_000,
  });
});

test("URLs of both engines are taken", () => {
  for (const url of ["postgres://u:p@h:5432/d?sslmode=require", "postgresql:///d?host=/run/pg", "pglite:memory"]) {
    assert.equal(databaseSection.parse({ url }).url, url);
  }
});

test("a bad URL is refused without a word of it, for it may hold a password", () => {
  for (const url of ["", "pglite:", "mysql://u:s3cret@h/d", "postgres://u:s3cret@h:port/d", "s3cret"]) {
    const { error } = databaseSection.safeParse({ url });
    assert.deepEqual(error?.issues[0]?.path, ["url"], url);
    assert.doesNotMatch(JSON.stringify(error?.issues), /s3cret/);
  }
});

test("limits are limits", () => {
  const faults = { pool_size: 0, statement_timeout: 0, connect_timeout: "0", probe_interval: "1ms", pool: 3 };
  for (const [key, value] of Object.entries(faults)) {
    assert.equal(databaseSection.safeParse({ url: "pglite:memory", [key]: value }).success, false, key);
  }
});

test("limits that contradict each other are refused, and a migration URL that is not used", () => {
  const faults = [
    ["idle_in_transaction_timeout", { statement_timeout: "60s" }],
    ["idle_in_transaction_timeout", { idle_in_transaction_timeout: "5s" }],
    ["idle_in_transaction_timeout", { url: "postgres://h/d?statement_timeout=90s" }],
    ["idle_in_transaction_timeout", { url: "postgres://h/d?idle_in_transaction_session_timeout=2000" }],
    ["migration_url", { migration_url: "postgres://h/d" }],
    ["migration_url", { url: "postgres://h/d", migration_url: "pglite:memory" }],
  ] as const;
  for (const [key, yaml] of faults) {
    const { error } = databaseSection.safeParse({ url: "pglite:memory", ...yaml });
    assert.deepEqual(error?.issues[0]?.path, [key], JSON.stringify(yaml));
  }
});

test("a URL is described without its secrets", () => {
  const url = "postgres://user:s3cret@db.internal:5433/books?password=s3cret";
  assert.equal(describePostgres(url), "PostgreSQL at db.internal:5433/books");
});
