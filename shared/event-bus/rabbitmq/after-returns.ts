/**
 * Calls back once every `basic.return` that came before is known. The broker sends an unroutable message back and then
 * confirms it; rabbitmq-client tells of the return in a `setImmediate`, so later than of the confirmation. What is
 * asked for in one turn of the event loop shares its immediates.
 */
export function createReturnsBarrier(): (callback: () => void) => void {
  let asked: (() => void)[] = [];
  let waiting: (() => void)[] = [];
  let scheduled = false;

  function turn(): void {
    const due = waiting;
    // Asked for before this immediate, and so maybe after another one that still is to run in this round.
    waiting = asked;
    asked = [];
    scheduled = waiting.length > 0;
    if (scheduled) setImmediate(turn);
    for (const callback of due) callback();
  }

  return (callback) => {
    asked.push(callback);
    if (scheduled) return;
    scheduled = true;
    setImmediate(turn);
  };
}
