import dns from "node:dns/promises";
import type { TestContext } from "node:test";
import { closeAfter } from "./close-after.ts";
import { freePort, programForTest, type RunningProgram, runProgram } from "./programs.ts";
import { until } from "./waiting.ts";

export interface DnsRecords {
  /** IPv4 and IPv6 addresses by name. */
  readonly hosts?: Readonly<Record<string, readonly string[]>>;
  readonly srv?: readonly SrvRecord[];
}

export interface SrvRecord {
  /** `_grpc._tcp.book.test` */
  readonly name: string;
  readonly target: string;
  readonly port: number;
  readonly priority?: number;
  readonly weight?: number;
}

export interface DnsmasqForTest {
  /** `127.0.0.1:port` */
  readonly server: string;
  /** Has these records, and no others, from now on. Starts it anew. */
  serve(records: DnsRecords): Promise<void>;
  /** How many questions it was asked since it was last started. */
  questions(): number;
  /** Kills it (SIGKILL). */
  stop(): Promise<void>;
  /** Starts it again at the same port, with the same records, and waits until it serves. */
  start(): Promise<void>;
}

/** Answered as soon as it serves. */
const PROBE = "is-up.test";

/**
 * Starts a DNS server for the test, for names below `test`; it forwards no other queries. Without the program the test is
 * skipped and the result is undefined (return then); with `CI=true` it fails.
 */
export async function dnsmasqForTest(t: TestContext, records: DnsRecords = {}): Promise<DnsmasqForTest | undefined> {
  const program = programForTest(t, "dnsmasq", "dnsmasq-base");
  if (program === undefined) return undefined;
  const port = await freePort();
  const server = `127.0.0.1:${port}`;
  let served = records;
  let running: RunningProgram | undefined;

  async function stop(): Promise<void> {
    await running?.kill();
    running = undefined;
  }

  async function start(): Promise<void> {
    await stop();
    const started = runProgram(program as string, argumentsOf(port, served));
    running = started;
    await until("dnsmasq to serve", () => {
      if (started.child.exitCode !== null) throw new Error(`dnsmasq has ended: ${started.said()}`);
      return isUp(server);
    });
  }

  closeAfter(t, stop);
  await start();
  return {
    server,
    stop,
    start,
    async serve(others) {
      served = others;
      await start();
    },
    questions: () =>
      (running?.said() ?? "").split("\n").filter((line) => line.includes("query[") && !line.includes(PROBE)).length,
  };
}

async function isUp(server: string): Promise<boolean> {
  const resolver = new dns.Resolver({ timeout: 500, tries: 1 });
  resolver.setServers([server]);
  return resolver.resolve4(PROBE).then(
    () => true,
    () => false,
  );
}

function argumentsOf(port: number, { hosts = {}, srv = [] }: DnsRecords): string[] {
  return [
    ...["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=", "--user="],
    ...[`--port=${port}`, "--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/"],
    // On standard error, so that questions can be counted.
    ...["--log-queries", "--log-facility=-", `--host-record=${PROBE},127.0.0.1`],
    ...Object.entries(hosts).flatMap(([name, addresses]) =>
      addresses.map((address) => `--host-record=${name},${address}`),
    ),
    ...srv.map(
      ({ name, target, port: targetPort, priority = 0, weight = 0 }) =>
        `--srv-host=${name},${target},${targetPort},${priority},${weight}`,
    ),
  ];
}
