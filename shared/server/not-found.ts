import type { FastifyReply, FastifyRequest } from "fastify";

/** `unimplemented` in gRPC's numbers. */
const UNIMPLEMENTED = "12";

/**
 * What a path that nobody serves answers, in the protocol that asks: gRPC reads the status from trailers, gRPC-Web from
 * the headers of a response without a body ("Trailers-Only"), Connect from JSON, the rest from HTTP.
 */
export function answerNotFound(request: FastifyRequest, reply: FastifyReply): void {
  const path = request.url.split("?", 1)[0] ?? "";
  const message = `${path} is not served here`;
  const contentType = request.headers["content-type"] ?? "";
  const grpcStatus = { "grpc-status": UNIMPLEMENTED, "grpc-message": encodeURIComponent(message) };
  if (/^application\/grpc-web/i.test(contentType)) {
    reply
      .code(200)
      .headers({ "content-type": contentType, ...grpcStatus })
      .send();
    return;
  }
  if (/^application\/grpc/i.test(contentType)) {
    reply.hijack();
    reply.raw.writeHead(200, { "content-type": contentType });
    reply.raw.addTrailers(grpcStatus);
    reply.raw.end();
    return;
  }
  if (/^application\/connect\+/i.test(contentType)) {
    const end = Buffer.from(JSON.stringify({ error: { code: "unimplemented", message } }));
    const envelope = Buffer.alloc(5);
    envelope.writeUInt8(0b10, 0);
    envelope.writeUInt32BE(end.length, 1);
    reply
      .code(200)
      .header("content-type", contentType)
      .send(Buffer.concat([envelope, end]));
    return;
  }
  reply.code(404).send({ code: "unimplemented", message });
}
