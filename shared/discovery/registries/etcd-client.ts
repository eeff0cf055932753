import { z } from "zod";
import type { EtcdConfig } from "../config.ts";
import { request, stream } from "./http-client.ts";
import { RegistryError, readAnswer } from "./registry-error.ts";

/**
 * etcd by its JSON gateway (`/v3/…`, etcd 3.4 and later): protobuf's JSON, so 64-bit numbers are strings, bytes are base64,
 * and what is zero or empty is left out.
 */
export interface EtcdClient {
  /**
   * Asks one member after the other until one can answer; the next call begins with that one.
   *
   * @throws RegistryError when none can, or when the answer is a refusal
   */
  call<T>(path: string, body: object, schema: z.ZodType<T>, signal: AbortSignal): Promise<T>;
  /** Asks the member that has answered last, for `{"result": …}` lines. */
  stream<T>(path: string, body: object, schema: z.ZodType<T>, signal: AbortSignal): AsyncGenerator<T>;
}

/** Each member has so long: the whole of a small cluster is tried within seconds. */
const TIMEOUT_MS = 3_000;

/** A member without a leader refuses to watch, instead of staying silent (etcd's `WithRequireLeader`). */
const REQUIRE_LEADER = { "grpc-metadata-hasleader": "true" };

const authenticated = z.object({ token: z.string() });

export function createEtcdClient(config: EtcdConfig): EtcdClient {
  const { endpoints, username, password } = config;
  let member = 0;
  let token: string | undefined;

  function post(path: string, body: object, signal: AbortSignal) {
    const headers: Record<string, string> = { ...REQUIRE_LEADER };
    if (token !== undefined) headers["authorization"] = token;
    return {
      method: "POST",
      base: endpoints[member] ?? "",
      path,
      body,
      headers,
      timeoutMs: TIMEOUT_MS,
      signal,
    } as const;
  }

  async function signIn(signal: AbortSignal): Promise<void> {
    if (username === undefined || token !== undefined) return;
    const body = { name: username, password };
    const { base, ...rest } = post("/v3/auth/authenticate", body, signal);
    token = readAnswer(authenticated, (await request({ base, ...rest }, config)).body, base).token;
  }

  /** Tokens end, and are unknown to a member that was restarted. */
  async function signedIn<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    await signIn(signal);
    try {
      return await work();
    } catch (error) {
      if (username === undefined || !(error instanceof RegistryError) || error.status !== 401) throw error;
      token = undefined;
      await signIn(signal);
      return work();
    }
  }

  return {
    async call(path, body, schema, signal) {
      for (let tries = 1; ; tries++) {
        const base = endpoints[member] ?? "";
        try {
          const answer = await signedIn(() => request(post(path, body, signal), config), signal);
          return readAnswer(schema, answer.body, base);
        } catch (error) {
          if (signal.aborted || !isMembersOwn(error)) throw error;
          member = (member + 1) % endpoints.length;
          if (tries >= endpoints.length) throw error;
        }
      }
    },
    async *stream(path, body, schema, signal) {
      const base = endpoints[member] ?? "";
      const lines = await signedIn(() => stream(post(path, body, signal), config), signal);
      for await (const line of lines) {
        const { result, error } = readAnswer(streamed, line, base);
        if (error !== undefined) throw new RegistryError(`${base} ended a stream: ${JSON.stringify(error)}`);
        yield readAnswer(schema, result, base);
      }
    },
  };
}

const streamed = z.object({ result: z.unknown().optional(), error: z.unknown().optional() });

/** Whether another member may do better. */
function isMembersOwn(error: unknown): boolean {
  return error instanceof RegistryError && (error.status === undefined || error.status >= 500);
}

export function toBase64(text: string): string {
  return Buffer.from(text, "utf8").toString("base64");
}

export function fromBase64(text: string): string {
  return Buffer.from(text, "base64").toString("utf8");
}
