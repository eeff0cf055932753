import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, encodeBinaryHeader, type HandlerContext } from "@connectrpc/connect";
import { DomainError } from "#shared/errors";
import { LazyHeaders } from "#shared/unread";

interface Text {
  readonly value: string;
}

export interface Seen {
  /** Calls that have come to a handler by the short path. */
  shortened: number;
  /** What the handlers have heard of the ends of calls, in their order. */
  readonly heard: string[];
}

/** Handlers that do what their messages say: steps with `;` in between, each `verb:argument`. */
export function scriptedHandlers(seen: Seen) {
  function count({ requestHeader }: HandlerContext): void {
    if (requestHeader instanceof LazyHeaders) seen.shortened++;
  }

  async function* run(script: string, context: HandlerContext): AsyncGenerator<Text> {
    try {
      for (const step of script.split(";")) yield* act(step, context, seen);
      seen.heard.push("end");
    } catch (error) {
      seen.heard.push(`thrown ${ConnectError.from(error).code}`);
      throw error;
    } finally {
      seen.heard.push("finally");
    }
  }

  return {
    expand({ value }: Text, context: HandlerContext) {
      count(context);
      return run(value, context);
    },
    async *chat(requests: AsyncIterable<Text>, context: HandlerContext) {
      count(context);
      if (context.requestHeader.has("x-leave-reading")) {
        void readAll(requests, seen);
        yield { value: "not waiting for more" };
        return;
      }
      try {
        for await (const { value } of requests) yield* run(value, context);
        seen.heard.push("all");
      } catch (error) {
        seen.heard.push(`failed ${ConnectError.from(error).code}`);
        throw error;
      }
    },
    async collect(requests: AsyncIterable<Text>, context: HandlerContext) {
      count(context);
      const said: string[] = [];
      for await (const { value: script } of requests) {
        for await (const { value } of run(script, context)) said.push(value);
      }
      return { value: said.join(" ") };
    },
  };
}

async function readAll(requests: AsyncIterable<Text>, { heard }: Seen): Promise<void> {
  try {
    for await (const { value } of requests) heard.push(`read ${value}`);
    heard.push("read all");
  } catch (error) {
    heard.push(`reading failed ${ConnectError.from(error).code}`);
  }
}

async function* act(step: string, context: HandlerContext, { heard }: Seen): AsyncGenerator<Text> {
  const [verb = "", argument = ""] = step.split(":");
  const { responseHeader, responseTrailer, signal } = context;
  switch (verb) {
    case "say":
      yield { value: argument };
      return;
    case "many":
      for (let index = 0; index < Number(argument); index++) yield { value: `${index}` };
      return;
    case "large":
      yield { value: "y".repeat(Number(argument)) };
      return;
    case "bad":
      yield { value: 7 as unknown as string };
      return;
    case "wait":
      await new Promise(setImmediate);
      return;
    case "fail": {
      const metadata = new Headers({ "x-why": "one", "x-raw-bin": encodeBinaryHeader(Uint8Array.of(0, 255)) });
      metadata.append("x-why", "two");
      metadata.set("content-type", "text/none");
      const detail = { desc: StringValueSchema, value: { value: "a detail: ü" } };
      throw new ConnectError(`no: ü % ${argument}`, Number(argument), metadata, [detail]);
    }
    case "throw":
      throw new Error("a secret");
    case "domain":
      throw new DomainError("not_found", "GONE", "niemand da: ü", { metadata: { id: "7" } });
    case "metadata":
      responseHeader.append("x-note", "one");
      responseHeader.append("x-note", "two");
      responseHeader.set("x-raw-bin", encodeBinaryHeader(Uint8Array.of(1, 2, 3)));
      responseHeader.append("set-cookie", "a=1");
      responseHeader.append("set-cookie", "b=2");
      responseTrailer.append("x-end", "3");
      responseTrailer.append("x-end", "4");
      return;
    case "unwritable":
      // HTTP/2 has no such header.
      responseHeader.set(argument, "close");
      return;
    case "listen":
      signal.addEventListener("abort", () => heard.push(`aborted: ${ConnectError.from(signal.reason).code}`));
      return;
    case "seen":
      yield { value: seenBy(context) };
      return;
    case "never":
      await new Promise(() => {});
      return;
    case "until":
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      throw argument === "" ? signal.reason : new ConnectError("in words of its own", Code.DataLoss);
  }
}

function seenBy(context: HandlerContext): string {
  const { service, method, requestMethod, protocolName, url, requestHeader, signal } = context;
  const timeoutMs = context.timeoutMs();
  return JSON.stringify({
    names: [service.typeName, method.name, requestMethod, protocolName, new URL(url).pathname],
    headers: [...requestHeader].filter(([name]) => name !== "host"),
    missing: [requestHeader.get("x-none"), requestHeader.has("X-None"), requestHeader.get("X-Twice")],
    time: timeoutMs === undefined ? "none" : timeoutMs > 0 && timeoutMs <= 30_000,
    aborted: signal.aborted,
  });
}
