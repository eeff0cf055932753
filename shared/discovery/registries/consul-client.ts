import type { ConsulConfig } from "../config.ts";
import { type HttpAnswer, request } from "./http-client.ts";

/** The HTTP API of a Consul agent. */
export interface ConsulClient {
  /** @throws RegistryError */
  call(
    method: "GET" | "PUT",
    path: string,
    options: { readonly body?: unknown; readonly timeoutMs?: number; readonly signal: AbortSignal },
  ): Promise<HttpAnswer>;
}

const TIMEOUT_MS = 5_000;

export function createConsulClient(config: ConsulConfig): ConsulClient {
  const headers: Record<string, string> = config.token === undefined ? {} : { "x-consul-token": config.token };
  return {
    call: (method, path, { timeoutMs = TIMEOUT_MS, ...options }) =>
      request({ method, base: config.address, path, headers, timeoutMs, ...options }, config),
  };
}
