import type { FastifyReply, FastifyRequest } from "fastify";

/**
 * What a path that nobody serves answers, in the protocol that asks: gRPC and gRPC-Web read the status from headers of
 * a response without a body ("Trailers-Only"), Connect from JSON, the rest from HTTP.
 */
export function answerNotFound(request: FastifyRequest, reply: FastifyReply): void {
  const path = request.url.split("?", 1)[0] ?? "";
  const message = `${path} is not served here`;
  const contentType = request.headers["content-type"] ?? "";
  if (contentType.startsWith("application/grpc")) {
    reply
      .code(200)
      .headers({ "content-type": contentType, "grpc-status": "12", "grpc-message": encodeURIComponent(message) })
      .send();
    return;
  }
  if (contentType.startsWith("application/connect+")) {
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
