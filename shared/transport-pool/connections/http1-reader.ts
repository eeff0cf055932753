import { maxHeaderSize } from "node:http";
import { Http1Begun } from "./http1-begun.ts";
import {
  checkHttp1Begin,
  checkHttp1HeadLine,
  type Http1Head,
  Http1SyntaxError,
  parseHttp1Fields,
  parseHttp1Head,
} from "./http1-head.ts";

/** Whoever is told of the parts of an answer, in their order. */
export interface Http1AnswerSink {
  onHead(head: Http1Head): void;
  /** The bytes are the sink's own. */
  onBody(bytes: Buffer): void;
  /** @param isLast nothing has come after it */
  onComplete(isLast: boolean): void;
}

const HEAD_END = "\r\n\r\n";
const ANSWER_BEGIN = "HTTP/";
/** So much of an answer is looked at before its first line is whole. */
const ANSWER_BEGIN_LENGTH = 7;
const UNASKED = "it says what nobody has asked for";
const TOO_LONG = `its headers are longer than ${maxHeaderSize} bytes`;
const LINE_END = "\r\n";
const CR = 13;
const LF = 10;
const WORD = "[!#$%&'*+.^_`|~\\w-]*";
const QUOTED = '"(?:[\\t !#-\\[\\]-~\\x80-\\xff]|\\\\[\\t -~\\x80-\\xff])*"';
/** Hexadecimal digits, and perhaps extensions, which mean nothing to those who do not know them (RFC 9112, 7.1.1). */
const CHUNK_SIZE = new RegExp(`^([\\da-f]{1,12})(?:;${WORD}(?:=(?:${WORD}|${QUOTED}))?)*$`, "i");

/**
 * Takes the answers of one connection apart, one at a time (RFC 9112): interim ones are passed over, trailers read and
 * dropped. Node's own parser comes only with its client, which makes a call cost four times as much as this does on a bare
 * socket; undici makes it cost twice as much.
 */
export class Http1Reader {
  readonly #sink: Http1AnswerSink;
  #state: "none" | "head" | "body" | "rest" | "size" | "chunk" | "chunk end" | "trailers" = "none";
  #isBodiless = false;
  #chunk: Buffer = Buffer.alloc(0);
  #at = 0;
  /** The beginning of what has not come whole. */
  #begun: Http1Begun | undefined;
  /** How much of a head that has not come whole is known to be good: its whole lines. */
  #checked = 0;
  /** How much of it has been searched for the end of a line. */
  #searched = 0;
  /** Bytes of the answer that are neither body nor what a body in chunks cannot do without. */
  #overhead = 0;
  /** Of the body, or of its chunk. */
  #left = 0;

  constructor(sink: Http1AnswerSink) {
    this.#sink = sink;
  }

  /** An answer is to come. */
  begin(isBodiless: boolean): void {
    this.#state = "head";
    this.#overhead = 0;
    this.#isBodiless = isBodiless;
  }

  /**
   * @param chunk not used after this has returned
   * @throws Http1SyntaxError, and what the sink throws
   */
  read(chunk: Buffer): void {
    this.#chunk = chunk;
    this.#at = 0;
    while (this.#at < this.#chunk.length && this.#step());
  }

  /** Nothing more will come. @returns whether that was the end of the answer */
  end(): boolean {
    if (this.#state !== "rest") return false;
    this.#complete();
    return true;
  }

  /** @returns false when what is there has to wait for more */
  #step(): boolean {
    switch (this.#state) {
      case "none":
        this.#skipEmptyLines();
        if (this.#at < this.#chunk.length) throw new Http1SyntaxError(UNASKED);
        break;
      case "head":
        return this.#readHead();
      case "body":
        if (this.#takeBody()) this.#complete();
        break;
      case "rest":
        this.#left = this.#chunk.length;
        this.#takeBody();
        break;
      case "size":
        return this.#readSize();
      case "chunk":
        if (this.#takeBody()) this.#state = "chunk end";
        break;
      case "chunk end":
        return this.#readChunkEnd();
      case "trailers":
        return this.#readTrailer();
    }
    return true;
  }

  #readHead(): boolean {
    if (this.#begun === undefined) this.#skipEmptyLines();
    if (this.#at === this.#chunk.length) return false;
    const text = this.#take(HEAD_END);
    if (text === undefined) {
      this.#checkLines();
      return false;
    }
    this.#checked = 0;
    this.#searched = 0;
    this.#count(text.length);
    const head = parseHttp1Head(text, this.#isBodiless);
    if (head.isInterim) return true;
    const { body } = head;
    this.#left = typeof body === "number" ? body : 0;
    this.#state = body === "chunked" ? "size" : body === "rest" ? "rest" : "body";
    this.#sink.onHead(head);
    if (body === 0) this.#complete();
    return true;
  }

  /** What there is of a head is looked at as it comes: a peer of another protocol may keep the connection open. */
  #checkLines(): void {
    const begun = this.#begun?.bytes();
    if (begun === undefined) return;
    if (this.#checked === 0) checkHttp1Begin(begun.toString("latin1", 0, ANSWER_BEGIN_LENGTH));
    for (let end = begun.indexOf(LF, this.#searched); end !== -1; end = begun.indexOf(LF, this.#checked)) {
      if (begun[end - 1] !== CR) throw new Http1SyntaxError("a line does not end with CR and LF");
      checkHttp1HeadLine(begun.toString("latin1", this.#checked, end - 1), this.#checked === 0);
      this.#checked = end + 1;
    }
    this.#searched = begun.length;
  }

  #readSize(): boolean {
    const line = this.#take(LINE_END);
    if (line === undefined) return false;
    const digits = CHUNK_SIZE.exec(line)?.[1];
    if (digits === undefined) throw new Http1SyntaxError("a chunk has no size");
    // A long body may come in any number of chunks, of a byte or more each.
    this.#count(line.length - digits.length);
    this.#left = Number.parseInt(digits, 16);
    this.#state = this.#left === 0 ? "trailers" : "chunk";
    return true;
  }

  #readChunkEnd(): boolean {
    const line = this.#take(LINE_END);
    if (line === undefined) return false;
    if (line !== "") throw new Http1SyntaxError("a chunk is longer than it says");
    this.#state = "size";
    return true;
  }

  #readTrailer(): boolean {
    const line = this.#take(LINE_END);
    if (line === undefined) return false;
    this.#count(line.length);
    if (line === "") this.#complete();
    else parseHttp1Fields(line, 0, {});
    return true;
  }

  /** Some servers put one between answers, and Node's client forgives them that. */
  #skipEmptyLines(): void {
    for (let byte = this.#chunk[this.#at]; byte === CR || byte === LF; byte = this.#chunk[this.#at]) this.#at++;
  }

  /** The text up to the delimiter; undefined when that has not come. */
  #take(delimiter: string): string | undefined {
    // Only the end of what came before can be the beginning of the delimiter.
    let searchFrom = this.#at;
    const begun = this.#begun;
    if (begun !== undefined) {
      searchFrom = Math.max(0, begun.length() - (delimiter.length - 1));
      begun.add(this.#chunk.subarray(this.#at));
      this.#chunk = begun.bytes();
      this.#at = 0;
    }
    const from = this.#at;
    const end = this.#chunk.indexOf(delimiter, searchFrom, "latin1");
    const length = (end === -1 ? this.#chunk.length : end) - from;
    if (length > maxHeaderSize) throw new Http1SyntaxError(TOO_LONG);
    if (end === -1) {
      this.#begun ??= new Http1Begun(this.#chunk.subarray(from));
      this.#at = this.#chunk.length;
      return undefined;
    }
    this.#begun = undefined;
    this.#at = end + delimiter.length;
    return this.#chunk.toString("latin1", from, end);
  }

  /** Bounds what a peer can have read for one call without ever giving it anything. */
  #count(bytes: number): void {
    this.#overhead += bytes;
    if (this.#overhead > maxHeaderSize) throw new Http1SyntaxError(TOO_LONG);
  }

  /** Hands on what there is of the `left` bytes. @returns whether that is all of them */
  #takeBody(): boolean {
    const bytes = Buffer.from(this.#chunk.subarray(this.#at, this.#at + this.#left));
    this.#at += bytes.length;
    this.#left -= bytes.length;
    this.#sink.onBody(bytes);
    return this.#left === 0;
  }

  /** A second answer does not make the first one bad, but whatever else follows it does: so it is with Node's client. */
  #complete(): void {
    this.#state = "none";
    this.#skipEmptyLines();
    const isLast = this.#at >= this.#chunk.length;
    if (!isLast && this.#chunk.indexOf(ANSWER_BEGIN, this.#at, "latin1") !== this.#at)
      throw new Http1SyntaxError(UNASKED);
    this.#sink.onComplete(isLast);
  }
}
