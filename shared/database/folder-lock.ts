import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";

export interface FolderLock {
  /** Takes the lock file away. */
  release(): void;
}

interface Owner {
  readonly pid: number;
  /** When the process began, where the system tells: a later process with the same id is another one. */
  readonly began?: string;
}

/** What this process holds. A lock file with its own id and no entry here is an earlier process's. */
const held = new Set<string>();

/**
 * Keeps a folder for this process by a file `<folder>.lock` beside it, which names the process; parent folders are made.
 * PGlite has no lock of its own, and two processes on one folder destroy its data. The lock of a process that is gone is
 * taken over.
 *
 * @throws Error that names the folder and the process that has it
 */
export function lockFolder(folder: string): FolderLock {
  const path = `${resolve(folder)}.lock`;
  if (held.has(path)) throw inUse(folder, process.pid);
  mkdirSync(dirname(path), { recursive: true });
  // Linked into place when it is whole, so that no process reads half a lock file.
  const draft = `${path}.${process.pid}`;
  const began = startOf(process.pid);
  const owner: Owner = { pid: process.pid, ...(began !== undefined && { began }) };
  writeFileSync(draft, JSON.stringify(owner));
  try {
    while (!tryLink(draft, path)) takeAwayIfStale(folder, path);
  } finally {
    rmSync(draft, { force: true });
  }
  held.add(path);
  return {
    release() {
      if (held.delete(path)) rmSync(path, { force: true });
    },
  };
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    throw error;
  }
}

/** @throws Error when the process that has the lock is alive */
function takeAwayIfStale(folder: string, path: string): void {
  const owner = readOwner(path);
  if (owner === "absent") return;
  if (isAlive(owner)) throw inUse(folder, owner.pid);
  // Renamed before it is removed: of two processes that find it stale, the slower one could remove the quicker one's new
  // lock. It sees so by what it has moved, and puts it back.
  const aside = `${path}.stale.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return;
    throw error;
  }
  const moved = readOwner(aside);
  if (moved !== "absent" && isAlive(moved)) tryLink(aside, path);
  rmSync(aside, { force: true });
}

function readOwner(path: string): Owner | "absent" {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return "absent";
    throw error;
  }
  try {
    const { pid, began } = JSON.parse(text) as Partial<Owner>;
    if (Number.isInteger(pid) && pid !== undefined && pid > 0) {
      return { pid, ...(typeof began === "string" && { began }) };
    }
  } catch {
    // Falls through: not a lock file that was ever written whole.
  }
  throw new Error(`${path} is not a lock file of ours; if no process uses the folder, remove it`);
}

function isAlive({ pid, began }: Owner): boolean {
  // In a container the next process often has the id of the one before. This one holds no such lock: see `held`.
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: the process exists and belongs to another user.
    if (errorCode(error) === "ESRCH") return false;
  }
  const now = startOf(pid);
  return began === undefined || now === undefined || began === now;
}

/** The kernel's start time of a process, in ticks since boot; undefined where there is no /proc. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // Fields are counted after the command's name, which is in parentheses and may hold anything.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}

function inUse(folder: string, pid: number): Error {
  const who = pid === process.pid ? `this process (${pid}) already` : `process ${pid}`;
  return new Error(`the embedded database in ${folder} is in use by ${who}; stop it, or name another folder`);
}

function errorCode(error: unknown): unknown {
  return (error as { code?: unknown }).code;
}
