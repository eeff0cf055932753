import { setTimeout as delay } from "node:timers/promises";
import { create, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import type { ConnectError, HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { toConnectError } from "./errors.ts";
import { appendTo, fromHeaders, fromQuery } from "./headers.ts";
import {
  BidiStreamRequestSchema,
  ClientStreamRequestSchema,
  type ConformancePayload_RequestInfo,
  ConformancePayload_RequestInfoSchema,
  type ConformancePayloadSchema,
  type ConformanceService,
  type Error as ErrorProto,
  IdempotentUnaryRequestSchema,
  ServerStreamRequestSchema,
  type StreamResponseDefinition,
  UnaryRequestSchema,
  type UnaryResponseDefinition,
} from "./protos.ts";

interface Response {
  readonly payload: MessageInitShape<typeof ConformancePayloadSchema>;
}

/** The timeout in milliseconds that the caller sent; undefined for none. */
export type TimeoutOf = (context: HandlerContext) => number | undefined;

/** Implements the suite's service, except for the method that the suite wants unimplemented. */
export function createService(timeoutOf: TimeoutOf): Omit<ServiceImpl<typeof ConformanceService>, "unimplemented"> {
  return {
    unary(request, context) {
      return respond(request.responseDefinition, context, [anyPack(UnaryRequestSchema, request)]);
    },

    idempotentUnary(request, context) {
      return respond(request.responseDefinition, context, [anyPack(IdempotentUnaryRequestSchema, request)]);
    },

    async clientStream(stream, context) {
      const requests: MessageShape<typeof ClientStreamRequestSchema>[] = [];
      for await (const request of stream) requests.push(request);
      return await respond(requests[0]?.responseDefinition, context, pack(ClientStreamRequestSchema, requests));
    },

    async *serverStream(request, context) {
      const { responseDefinition: definition } = request;
      if (definition === undefined) return;
      const requests = [anyPack(ServerStreamRequestSchema, request)];
      setFields(definition, context);
      for (const [index, data] of definition.responseData.entries()) {
        const payload = index === 0 ? { data, requestInfo: infoOf(context, requests) } : { data };
        await pause(definition, context);
        yield { payload };
      }
      if (definition.error !== undefined) throw lastError(definition.error, definition, context, requests);
    },

    async *bidiStream(stream, context) {
      let definition: StreamResponseDefinition | undefined;
      let isFullDuplex: boolean | undefined;
      let sent = 0;
      /** Those that no response has described yet. */
      let requests: Any[] = [];

      for await (const request of stream) {
        requests.push(anyPack(BidiStreamRequestSchema, request));
        if (isFullDuplex === undefined) {
          isFullDuplex = request.fullDuplex;
          definition = request.responseDefinition;
          if (definition !== undefined) setFields(definition, context);
        }
        if (!isFullDuplex) continue;
        const data = definition?.responseData[sent];
        if (definition === undefined || data === undefined) break;
        const requestInfo =
          sent === 0 ? infoOf(context, requests) : create(ConformancePayload_RequestInfoSchema, { requests });
        await pause(definition, context);
        yield { payload: { data, requestInfo } };
        sent++;
        requests = [];
      }

      if (definition === undefined) return;
      for (const data of definition.responseData.slice(sent)) {
        const payload = sent === 0 ? { data, requestInfo: infoOf(context, requests) } : { data };
        await pause(definition, context);
        yield { payload };
        sent++;
      }
      if (definition.error !== undefined) throw lastError(definition.error, definition, context, requests);
    },
  };

  async function respond(
    definition: UnaryResponseDefinition | undefined,
    context: HandlerContext,
    requests: Any[],
  ): Promise<Response> {
    if (definition === undefined) return { payload: { requestInfo: infoOf(context, requests) } };
    const { response } = definition;
    setFields(definition, context);
    // Before the pause, since the timeout that is left gets shorter.
    const requestInfo = infoOf(context, requests);
    await pause(definition, context);
    if (response.case === "error") throw withInfo(response.value, requestInfo);
    return { payload: { requestInfo, ...(response.case === undefined ? {} : { data: response.value }) } };
  }

  /** An error before the first response tells what a payload would have told. */
  function lastError(
    error: ErrorProto,
    { responseData }: StreamResponseDefinition,
    context: HandlerContext,
    requests: Any[],
  ): ConnectError {
    return responseData.length > 0 ? toConnectError(error) : withInfo(error, infoOf(context, requests));
  }

  function infoOf(context: HandlerContext, requests: Any[]): ConformancePayload_RequestInfo {
    const timeoutMs = timeoutOf(context);
    return create(ConformancePayload_RequestInfoSchema, {
      requestHeaders: fromHeaders(context.requestHeader),
      requests,
      ...(timeoutMs === undefined ? {} : { timeoutMs: BigInt(Math.max(0, Math.floor(timeoutMs))) }),
      ...(context.requestMethod === "GET" ? { connectGetInfo: { queryParams: fromQuery(context.url) } } : {}),
    });
  }
}

function withInfo(error: ErrorProto, requestInfo: ConformancePayload_RequestInfo): ConnectError {
  const thrown = toConnectError(error);
  thrown.details.push({ desc: ConformancePayload_RequestInfoSchema, value: requestInfo });
  return thrown;
}

function setFields(
  { responseHeaders, responseTrailers }: UnaryResponseDefinition | StreamResponseDefinition,
  { responseHeader, responseTrailer }: HandlerContext,
): void {
  appendTo(responseHeader, responseHeaders);
  appendTo(responseTrailer, responseTrailers);
}

function pack<Desc extends DescMessage>(schema: Desc, messages: readonly MessageShape<Desc>[]): Any[] {
  return messages.map((message) => anyPack(schema, message));
}

/** @throws the call's reason when the call ends during the pause */
async function pause(
  { responseDelayMs }: UnaryResponseDefinition | StreamResponseDefinition,
  { signal }: HandlerContext,
): Promise<void> {
  if (responseDelayMs === 0) return;
  await delay(responseDelayMs, undefined, { signal }).catch(() => signal.throwIfAborted());
}
