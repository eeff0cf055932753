import { Code, ConnectError } from "@connectrpc/connect";
import { codeName } from "../rpc/status.ts";

export interface WrittenResponse {
  readonly status: number;
  readonly contentType: string;
  readonly trailers: Readonly<Record<string, unknown>>;
  /** The last chunk of the body. */
  readonly last: Uint8Array | undefined;
}

/** Flags of the last frame of a stream. */
const GRPC_WEB_TRAILERS = 0b1000_0000;
const CONNECT_END = 0b10;

const codes: ReadonlyMap<string, Code> = new Map(
  Object.values(Code)
    .filter((code): code is Code => typeof code === "number")
    .map((code) => [codeName(code), code]),
);

/** The failure that a written response reports, by its protocol. Undefined for a success, and for what is compressed. */
export function reportedFailure({ status, contentType, trailers, last }: WrittenResponse): ConnectError | undefined {
  const grpcStatus = trailers["grpc-status"];
  if (grpcStatus !== undefined) return grpcFailure(String(grpcStatus), String(trailers["grpc-message"] ?? ""));
  const body = Buffer.from(last ?? []);
  if (contentType.startsWith("application/grpc-web")) {
    if (body[0] !== GRPC_WEB_TRAILERS) return undefined;
    const block = body.toString("latin1", 5);
    const [, code = "0"] = /^grpc-status: ?(\d+)/m.exec(block) ?? [];
    const [, message = ""] = /^grpc-message: ?(.*)$/m.exec(block) ?? [];
    return grpcFailure(code, message.trim());
  }
  if (contentType.startsWith("application/connect+")) {
    if (body[0] !== CONNECT_END) return undefined;
    return connectFailure((JSON.parse(body.toString("utf8", 5)) as { error?: unknown }).error);
  }
  if (status < 400) return undefined;
  try {
    return connectFailure(JSON.parse(body.toString()));
  } catch {
    return connectFailure({});
  }
}

function grpcFailure(status: string, message: string): ConnectError | undefined {
  if (status === "0") return undefined;
  return new ConnectError(decode(message), Number(status));
}

function decode(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}

function connectFailure(error: unknown): ConnectError | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const { code, message } = error as { code?: unknown; message?: unknown };
  return new ConnectError(typeof message === "string" ? message : "", codes.get(String(code)) ?? Code.Unknown);
}
