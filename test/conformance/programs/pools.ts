import type { Transport } from "@connectrpc/connect";
import type { Logger } from "#shared/logging";
import { createTransportPool, grpcClientsSection, type TransportPool } from "#shared/transport-pool";
import { UnsupportedRequest } from "./call.ts";
import type { PemFiles } from "./pem-files.ts";
import { type ClientCompatRequest, Codec, Compression, HTTPVersion, Protocol } from "./protos.ts";
import { registry } from "./registry.ts";

const SERVICE = "conformance";
/** Servers of the runner come and go: a pool without calls for this long is closed. */
const IDLE_MS = 3_000;

const protocols: Readonly<Record<number, string>> = {
  [Protocol.CONNECT]: "connect",
  [Protocol.GRPC]: "grpc",
  [Protocol.GRPC_WEB]: "grpc-web",
};
const versions: Readonly<Record<number, string>> = {
  [HTTPVersion.HTTP_VERSION_1]: "1.1",
  [HTTPVersion.HTTP_VERSION_2]: "2",
};

const codecs: Readonly<Record<number, string>> = { [Codec.PROTO]: "binary", [Codec.JSON]: "json" };
const compressions: Readonly<Record<number, string>> = {
  [Compression.UNSPECIFIED]: "none",
  [Compression.IDENTITY]: "none",
  [Compression.GZIP]: "gzip",
  [Compression.BR]: "br",
};

interface OpenPool {
  readonly pool: TransportPool;
  calls: number;
  idleTimer?: NodeJS.Timeout;
}

/** One transport pool for each configuration that a request needs. */
export class Pools {
  readonly #files: PemFiles;
  readonly #logger: Logger;
  readonly #isFastPath: boolean;
  readonly #open = new Map<string, OpenPool>();

  constructor(files: PemFiles, logger: Logger, isFastPath: boolean) {
    this.#files = files;
    this.#logger = logger;
    this.#isFastPath = isFastPath;
  }

  /** @throws UnsupportedRequest when the configuration has no key for what the request needs */
  async use<T>(request: ClientCompatRequest, call: (transport: Transport) => Promise<T>): Promise<T> {
    const service = this.#configFor(request);
    const key = JSON.stringify(service);
    const open = this.#open.get(key) ?? this.#create(key, service);
    clearTimeout(open.idleTimer);
    open.calls++;
    try {
      return await call(open.pool.transport(SERVICE));
    } finally {
      open.calls--;
      if (open.calls === 0) open.idleTimer = setTimeout(() => void this.#close(key, open), IDLE_MS).unref();
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open].map(([key, open]) => this.#close(key, open)));
  }

  #create(key: string, service: object): OpenPool {
    const config = grpcClientsSection.parse({ services: [service] });
    const pool = createTransportPool(config, { logger: this.#logger, caller: SERVICE, jsonOptions: { registry } });
    const open = { pool, calls: 0 };
    this.#open.set(key, open);
    return open;
  }

  async #close(key: string, open: OpenPool): Promise<void> {
    clearTimeout(open.idleTimer);
    this.#open.delete(key);
    await open.pool.close();
  }

  #configFor(request: ClientCompatRequest): object {
    const { host, port, serverTlsCert, messageReceiveLimit } = request;
    const protocol = protocols[request.protocol];
    const http = versions[request.httpVersion];
    if (protocol === undefined) throw new UnsupportedRequest(`protocol ${request.protocol}`);
    if (http === undefined) throw new UnsupportedRequest(`HTTP version ${request.httpVersion}`);
    const codec = codecs[request.codec];
    if (codec === undefined) throw new UnsupportedRequest(`codec ${request.codec}`);
    const compression = compressions[request.compression];
    if (compression === undefined) throw new UnsupportedRequest(`compression ${request.compression}`);
    const isTls = serverTlsCert.length > 0;
    return {
      name: SERVICE,
      address: `${isTls ? "https://" : ""}${host}:${port}`,
      protocol,
      http,
      fast_path: this.#isFastPath,
      codec,
      compression,
      compress_min_bytes: 0,
      use_get: request.useGetHttpMethod,
      ...(messageReceiveLimit === 0 ? {} : { read_max_bytes: messageReceiveLimit }),
      ...(isTls ? { tls: this.#tlsFor(request) } : {}),
      // The suite causes many failures in a row.
      breaker: { enabled: false },
      outlier_ejection: { enabled: false },
    };
  }

  #tlsFor({ serverTlsCert, clientTlsCreds }: ClientCompatRequest): object {
    const ca = { ca_file: this.#files.write(serverTlsCert) };
    if (clientTlsCreds === undefined) return ca;
    const { cert, key } = clientTlsCreds;
    return { ...ca, cert_file: this.#files.write(cert), key_file: this.#files.write(key) };
  }
}
