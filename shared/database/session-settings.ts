import type { DatabaseConfig } from "./config.ts";
import type { TimeLimits } from "./origin.ts";

/** What every session or transaction needs to be set, beside what the URL sets. */
export interface SessionSettings {
  /** The URL without the parameters that are among the settings. */
  readonly url: string;
  /** The settings as `options` of the startup packet. */
  readonly startup: string;
  /** The settings as a statement for the beginning of a transaction, where a pooler refuses or drops the startup's. */
  readonly local: string;
  /** The time limits among the settings. */
  readonly limits: TimeLimits;
}

type ConfiguredLimits = Pick<DatabaseConfig, "statementTimeoutMs" | "idleInTransactionTimeoutMs">;

type Setting = readonly [name: string, value: string];

/** Set at the startup; a session without it is a pooler's. */
export const MARKER = "meridian.session";
/** Parameters of the URL that pg sends as settings of their own, which a pooler refuses. */
const URL_PARAMETERS = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];

/**
 * Merges this module's settings with those of the URL: its `options` keep their effect, except on `search_path`, which
 * plain SQL of a service may rely on.
 */
export function sessionSettings(config: ConfiguredLimits, configuredUrl: string, schema: string): SessionSettings {
  const defaults: Setting[] = [
    // A service's statements are short: to compile one costs more than to run it.
    ["jit", "off"],
    // Rows are in memory or on a disk that does not turn: an index is worth it, also where there are no statistics yet.
    ["random_page_cost", "1.1"],
    ["statement_timeout", String(config.statementTimeoutMs)],
    ["idle_in_transaction_session_timeout", String(config.idleInTransactionTimeoutMs)],
  ];
  const { url, options, parameters } = splitUrl(configuredUrl);
  const last: Setting[] = [
    ["search_path", `${schema},public`],
    [MARKER, "on"],
  ];
  const startup = [...startupOptions([...defaults, ...parameters]), options, ...startupOptions(last)];
  const all = [...defaults, ...parameters, ...parseOptions(options), ...last];
  const calls = all.map(([name, value]) => `set_config(${quote(name)}, ${quote(value)}, true)`);
  const limits = {
    statementTimeoutMs: lastLimit(all, "statement_timeout") ?? config.statementTimeoutMs,
    idleInTransactionTimeoutMs:
      lastLimit(all, "idle_in_transaction_session_timeout") ?? config.idleInTransactionTimeoutMs,
  };
  return { url, startup: startup.join(" "), local: `select ${calls.join(", ")}`, limits };
}

const MS_PER_UNIT: Readonly<Record<string, number>> = {
  us: 0.001,
  ms: 1,
  s: 1_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** The limit that counts, in ms; Infinity for 0. Undefined for a value that PostgreSQL will refuse. */
function lastLimit(settings: readonly Setting[], name: string): number | undefined {
  const value = settings.findLast(([other]) => other.toLowerCase() === name)?.[1];
  const [, amount, unit = "ms"] = /^\s*(\d+(?:\.\d*)?)\s*(us|ms|s|min|h|d)?\s*$/.exec(value ?? "") ?? [];
  const ms = Math.round(Number(amount) * (MS_PER_UNIT[unit] ?? Number.NaN));
  if (Number.isNaN(ms)) return undefined;
  return ms === 0 ? Number.POSITIVE_INFINITY : ms;
}

function splitUrl(configured: string) {
  const url = new URL(configured);
  const options = url.searchParams.get("options") ?? "";
  const parameters = URL_PARAMETERS.flatMap((name): Setting[] => {
    const value = url.searchParams.get(name);
    return value === null ? [] : [[name, value]];
  });
  const isChanged = options !== "" || parameters.length > 0;
  for (const name of ["options", ...URL_PARAMETERS]) url.searchParams.delete(name);
  // An URL that holds none of them stays as it is, to the letter.
  return { url: isChanged ? url.href : configured, options, parameters };
}

function startupOptions(settings: readonly Setting[]): string[] {
  return settings.map(([name, value]) => `-c ${name}=${value.replace(/[\\\s]/g, "\\$&")}`);
}

/** The settings in an `options` text: `-c name=value`, `-cname=value` and `--name=value`, with `\` before a space. */
function parseOptions(options: string): Setting[] {
  const found = options.matchAll(/(?:^|\s)(?:-c\s*|--)([\w.-]+)=((?:\\.|[^\\\s])*)/g);
  return [...found].map(([, name = "", value = ""]) => [name.replaceAll("-", "_"), value.replace(/\\(.)/g, "$1")]);
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
