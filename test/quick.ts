// `npm run test:quick [-- PATH…]`: the tests for the inner loop, in one process. They are those files of shared/ and
// services/ (or below the given paths) that open no database, broker, server or process, and are no fuzz test.

import { spawnSync } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";

const SLOW_FILE = /differential|fuzz/;
const SLOW_SOURCE = new RegExp(
  [
    "databaseForTest|postgresForTest|embeddedForTest|openEmbedded|rabbitmqForTest|rivateBroker|etcdForTest|dnsmasqForTest",
    String.raw`\b(?:start\w*Server\w*|createServer|startPeer|clientAt|deadUrl)\b|\.listen\(`,
    "node:child_process|buildDescriptorSet|collectGarbage|differential|fuzz",
  ].join("|"),
);

const below = process.argv.slice(2);
const files = globSync(below.length === 0 ? ["shared/**/*.test.ts", "services/**/*.test.ts"] : below.map(testsBelow))
  .filter(isQuick)
  .toSorted();
if (files.length === 0) throw new Error(`no quick test below ${below.join(", ")}`);

const options = ["--test", "--test-isolation=none", "--test-timeout=60000", "--test-force-exit"];
const { status } = spawnSync(process.execPath, [...options, ...files], { stdio: "inherit" });
process.exitCode = status ?? 1;

function testsBelow(path: string): string {
  return path.endsWith(".ts") ? path : `${path.replace(/\/$/, "")}/**/*.test.ts`;
}

function isQuick(file: string): boolean {
  const source = readFileSync(file, "utf8");
  const supports = source.matchAll(/from "(\.[^"]*support[^"]*\.ts)"/g);
  return (
    !SLOW_FILE.test(file) &&
    !SLOW_SOURCE.test(source) &&
    supports.every(([, path = ""]) => isQuick(join(dirname(file), path)))
  );
}
