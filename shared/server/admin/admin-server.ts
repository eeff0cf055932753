import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import type { Logger } from "#shared/logging";
import { abortable } from "../interceptors/abortable.ts";
import { respondPlainError } from "../plain/plain-errors.ts";
import type { AdminConfig } from "./admin-config.ts";

export interface AdminServerOptions {
  readonly config: AdminConfig;
  readonly logger: Pick<Logger, "info" | "error">;
  /** What to answer, by path such as `/debug/pool`: a value for JSON, or a promise of one. Only ever read. */
  readonly pages: Readonly<Record<string, () => unknown>>;
}

/** A port of its own for those who run the service, so that its pages are never exposed with the service. */
export interface AdminServer {
  /** Where it listens, such as `http://127.0.0.1:9101`. @throws Error before `start` */
  readonly url: string;
  /** @throws the bind error, such as EADDRINUSE */
  start(): Promise<void>;
  /** Closes the port and every connection at once. Can be called again, and before `start`. */
  stop(): Promise<void>;
}

/** How long a page may take, and a request to arrive. */
const TIMEOUT_MS = 10_000;

const MAX_CONNECTIONS = 100;
const MAX_BODY_BYTES = 1_024;

/** What its own pages answer. */
const OWN_PATHS = ["/", "/healthz"] as const;

/**
 * `GET` of each page answers its value as JSON, `GET /` the list of pages, and `/healthz` says that the process answers.
 *
 * @throws TypeError for a page's path that is not a plain one, or is the server's own
 */
export function createAdminServer({ config, logger, pages }: AdminServerOptions): AdminServer {
  const paths = Object.keys(pages);
  for (const path of paths) checkPath(path);
  let url: string | undefined;
  let stopping: Promise<void> | undefined;

  const fastify = createFastify(logger, new Set([...OWN_PATHS, ...paths]));
  fastify.get("/", (_request, reply) => answer(reply, { pages: paths }));
  fastify.get("/healthz", (_request, reply) => answer(reply, { status: "alive" }));
  for (const [path, page] of Object.entries(pages)) {
    fastify.get(path, async (_request, reply) => {
      try {
        return answer(reply, await abortable(AbortSignal.timeout(TIMEOUT_MS), Promise.try(page)));
      } catch (err) {
        logger.error({ err, page: path }, "admin page failed");
        return reply.code(500).send({ code: "internal", message: "internal error" });
      }
    });
  }

  function refuseIfStopped(): void {
    if (stopping !== undefined) throw new Error("the admin server has been stopped");
  }

  return {
    get url() {
      if (url === undefined) throw new Error("the admin server does not listen yet");
      return url;
    },
    async start() {
      refuseIfStopped();
      url = await fastify.listen({ host: config.host, port: config.port });
      logger.info({ url }, "admin pages");
    },
    stop() {
      stopping ??= fastify.close();
      return stopping;
    },
  };
}

function createFastify(logger: Pick<Logger, "error">, known: ReadonlySet<string>): FastifyInstance {
  const fastify = Fastify({
    forceCloseConnections: true,
    bodyLimit: MAX_BODY_BYTES,
    connectionTimeout: TIMEOUT_MS,
    requestTimeout: TIMEOUT_MS,
  });
  fastify.server.maxConnections = MAX_CONNECTIONS;
  // A body means nothing here, whatever its type.
  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser("*", (_request, _payload, done) => done(null));
  fastify.addHook("onRequest", async (_request, reply) => {
    reply.header("cache-control", "no-store").header("x-content-type-options", "nosniff");
  });
  fastify.setErrorHandler(respondPlainError(logger));
  fastify.setNotFoundHandler((request: FastifyRequest, reply: FastifyReply) => {
    const path = request.url.split("?", 1)[0] ?? "";
    if (!known.has(path)) return reply.code(404).send({ code: "not_found", message: `there is no page ${path}` });
    const message = `${request.method} is not allowed: pages can only be read`;
    return reply.code(405).header("allow", "GET, HEAD").send({ code: "unimplemented", message });
  });
  return fastify;
}

/** Indented, for people with curl. */
function answer(reply: FastifyReply, value: unknown): FastifyReply {
  return reply.type("application/json; charset=utf-8").send(`${JSON.stringify(value, undefined, 2) ?? "null"}\n`);
}

function checkPath(path: string): void {
  if (!/^(\/[\w.~-]+)+$/.test(path)) throw new TypeError(`an admin page needs a path like /debug/pool, not ${path}`);
  if (OWN_PATHS.some((own) => own === path)) throw new TypeError(`${path} is the admin server's own page`);
}
