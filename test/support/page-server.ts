import { once } from "node:events";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { stripTypeScriptTypes } from "node:module";
import type { AddressInfo } from "node:net";
import { extname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { repository } from "./service-process.ts";

/** Where a web page's files come from: an origin of its own. */
export interface PageServer {
  /** Such as `http://127.0.0.1:41234`. */
  readonly origin: string;
  close(): Promise<void>;
}

/** What a page with generated code imports. A bundler would find these. */
const packages = [
  "@bufbuild/protobuf",
  "@bufbuild/protobuf/codegenv2",
  "@bufbuild/protobuf/reflect",
  "@bufbuild/protobuf/wire",
  "@bufbuild/protobuf/wkt",
  "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js",
  "@connectrpc/connect",
  "@connectrpc/connect/protocol",
  "@connectrpc/connect/protocol-connect",
  "@connectrpc/connect/protocol-grpc",
  "@connectrpc/connect/protocol-grpc-web",
  "@connectrpc/connect-web",
];

const FILES = "/files/";

/**
 * Serves an empty page whose scripts can import our generated code as `#gen/…` and the packages above, from the
 * repository as it is: without a bundler, with types stripped.
 */
export async function startPageServer(): Promise<PageServer> {
  const page = `<!doctype html><script type="importmap">${JSON.stringify({ imports: importMap() })}</script>`;
  const server = http.createServer((request, response) => {
    void answer(request.url ?? "/", page).then(
      ({ type, body }) => response.writeHead(200, { "content-type": type }).end(body),
      () => response.writeHead(404).end(),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.close();
      server.closeAllConnections();
      if (server.listening) await once(server, "close");
    },
  };
}

async function answer(url: string, page: string): Promise<{ type: string; body: string }> {
  if (url === "/") return { type: "text/html", body: page };
  if (!url.startsWith(FILES)) throw new Error(`${url} is not served`);
  const file = join(repository, url.slice(FILES.length));
  const text = await readFile(file, "utf8");
  return { type: "text/javascript", body: extname(file) === ".ts" ? stripTypeScriptTypes(text) : text };
}

function importMap(): Record<string, string> {
  const resolved = packages.map((name) => {
    const file = fileURLToPath(import.meta.resolve(name));
    return [name, FILES + relative(repository, file)];
  });
  return { "#gen/": `${FILES}gen/`, ...Object.fromEntries(resolved) };
}
