import { join } from "node:path";
import type { TestContext } from "node:test";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { closeAfter, until } from "#shared/testing";
import { repository } from "./service-process.ts";

/** Where our protos are, and those that they import. */
const ours = [join(repository, "proto"), join(repository, "node_modules/.proto")];

/** Messages as plain objects, as grpc-js has them. */
export type Message = Readonly<Record<string, unknown>>;

/** A service of ours as grpc-js reads it from the proto files, with the names that stand there. */
export function loadService(file: string, name: string, includeDirs = ours): grpc.ServiceClientConstructor {
  const definition = loadSync(file, { includeDirs, keepCase: true, longs: String, enums: String, defaults: true });
  let found: unknown = grpc.loadPackageDefinition(definition);
  for (const part of name.split(".")) found = (found as Record<string, unknown>)[part];
  return found as grpc.ServiceClientConstructor;
}

/** A stock grpc-js client, closed after the test. */
export function clientOf(t: TestContext, service: grpc.ServiceClientConstructor, url: string): grpc.Client {
  const client = new service(new URL(url).host, grpc.credentials.createInsecure());
  closeAfter(t, () => client.close());
  return client;
}

export interface UnaryOutcome {
  readonly error: grpc.ServiceError | null;
  readonly response: Message | undefined;
  readonly header: grpc.Metadata | undefined;
  readonly trailer: grpc.Metadata | undefined;
}

export interface CallOptions extends grpc.CallOptions {
  readonly metadata?: Readonly<Record<string, string | Buffer>>;
  /** Gets the call as soon as there is one. */
  readonly onCall?: (call: grpc.ClientUnaryCall) => void;
}

/** A unary call with all that comes back. Never rejects. */
export function unary(
  client: grpc.Client,
  method: string,
  request: Message,
  { metadata = {}, onCall, ...options }: CallOptions = {},
): Promise<UnaryOutcome> {
  const call = methodOf<UnaryMethod>(client, method);
  return new Promise((resolve) => {
    let outcome: Pick<UnaryOutcome, "error" | "response"> | undefined;
    let header: grpc.Metadata | undefined;
    let trailer: grpc.Metadata | undefined;
    const settle = () => {
      if (outcome !== undefined && trailer !== undefined) resolve({ ...outcome, header, trailer });
    };
    const running = call(request, metadataOf(metadata), options, (error, response) => {
      outcome = { error, response };
      settle();
    });
    running.on("metadata", (received: grpc.Metadata) => {
      header = received;
    });
    running.on("status", ({ metadata: received }: grpc.StatusObject) => {
      trailer = received;
      settle();
    });
    onCall?.(running);
  });
}

type UnaryMethod = (
  request: Message,
  metadata: grpc.Metadata,
  options: grpc.CallOptions,
  callback: (error: grpc.ServiceError | null, response?: Message) => void,
) => grpc.ClientUnaryCall;

/** A call that streams its answer. */
export function serverStream(
  client: grpc.Client,
  method: string,
  request: Message,
): grpc.ClientReadableStream<Message> {
  return methodOf<(request: Message) => grpc.ClientReadableStream<Message>>(client, method)(request);
}

/** grpc-js adds the methods to its clients when it has read the proto. */
function methodOf<Method extends (...args: never[]) => unknown>(client: grpc.Client, name: string): Method {
  const method = (client as unknown as Readonly<Record<string, Method>>)[name];
  if (method === undefined) throw new TypeError(`the service has no method ${name}`);
  return method.bind(client) as Method;
}

export function metadataOf(entries: Readonly<Record<string, string | Buffer>>): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(entries)) metadata.set(name, value);
  return metadata;
}

/** A stock grpc-js server on a free port, ended after the test. */
export async function startGrpcServer(
  t: TestContext,
  service: grpc.ServiceClientConstructor,
  handlers: grpc.UntypedServiceImplementation,
): Promise<string> {
  const server = new grpc.Server();
  server.addService(service.service, handlers);
  let port: number | undefined;
  server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) => {
    if (error === null) port = bound;
  });
  closeAfter(t, () => server.forceShutdown());
  await until("a grpc-js server to listen", () => port !== undefined);
  return `127.0.0.1:${port}`;
}
