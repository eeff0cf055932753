import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Channel } from "rabbitmq-client";
import { seededRandom } from "#shared/testing";
import { createAcknowledgements } from "./acknowledgements.ts";

interface Frame {
  readonly deliveryTag: number;
  readonly multiple?: boolean;
}

function open() {
  const frames: (Frame | { readonly rejected: number; readonly requeue: boolean })[] = [];
  const channel = {
    active: true,
    basicAck: (frame: Frame) => void frames.push(frame),
    basicNack: ({ deliveryTag, requeue }: { deliveryTag: number; requeue: boolean }) =>
      void frames.push({ rejected: deliveryTag, requeue }),
  };
  const acknowledgements = createAcknowledgements(channel as unknown as Channel, () => {});
  const deliver = (...tags: number[]) => tags.forEach(acknowledgements.delivered);
  const acknowledge = (...tags: number[]) => tags.forEach(acknowledgements.acknowledge);
  return { channel, acknowledgements, deliver, acknowledge, sent: () => frames.splice(0) };
}

test("deliveries that are settled in one turn are acknowledged by one frame, in whatever order", async () => {
  const { deliver, acknowledge, sent } = open();
  deliver(1, 2, 3, 4);
  acknowledge(3, 1, 2);
  assert.deepEqual(sent(), []);
  await turn();
  assert.deepEqual(sent(), [{ deliveryTag: 3, multiple: true }]);
});

test("what is behind a delivery that has to wait is acknowledged all the same, and not again after it", async () => {
  const { deliver, acknowledge, sent } = open();
  deliver(1, 2, 3, 4);
  acknowledge(1, 3, 4);
  await turn();
  assert.deepEqual(sent(), [{ deliveryTag: 1, multiple: true }, { deliveryTag: 3 }, { deliveryTag: 4 }]);
  acknowledge(2);
  await turn();
  assert.deepEqual(sent(), [{ deliveryTag: 2, multiple: true }]);
});

test("a rejected delivery is no part of an acknowledgement", async () => {
  const { acknowledgements, deliver, acknowledge, sent } = open();
  deliver(1, 2, 3);
  acknowledge(3, 1);
  acknowledgements.reject(2, true);
  await turn();
  assert.deepEqual(sent(), [
    { rejected: 2, requeue: true },
    { deliveryTag: 3, multiple: true },
  ]);
});

test("before the channel closes all goes out at once, and nothing after it", async () => {
  const { channel, acknowledgements, deliver, acknowledge, sent } = open();
  deliver(1, 2, 3);
  acknowledge(1);
  acknowledgements.flush();
  assert.deepEqual(sent(), [{ deliveryTag: 1, multiple: true }]);
  acknowledge(2);
  channel.active = false;
  acknowledgements.reject(3, false);
  await turn();
  assert.deepEqual(sent(), []);
});

test("the broker's account is right: each delivery is acknowledged once, and none that is not settled", async () => {
  const random = seededRandom(7);
  const unanswered = new Set<number>();
  const settled = new Set<number>();
  function remove(tag: number): void {
    assert.ok(unanswered.delete(tag), `${tag} is unknown`);
    assert.ok(settled.delete(tag), `${tag} is not settled`);
  }
  const channel = {
    active: true,
    basicAck({ deliveryTag, multiple = false }: Frame) {
      assert.ok(unanswered.has(deliveryTag), `${deliveryTag} is unknown: the broker would close the channel`);
      for (const tag of multiple ? [...unanswered].filter((tag) => tag <= deliveryTag) : [deliveryTag]) remove(tag);
    },
    basicNack: ({ deliveryTag }: Frame) => remove(deliveryTag),
  };
  const { delivered, acknowledge, reject } = createAcknowledgements(channel as unknown as Channel, () => {});
  const inHand: number[] = [];
  for (let tag = 1; tag <= 5_000; tag++) {
    delivered(tag);
    unanswered.add(tag);
    inHand.push(tag);
    while (inHand.length > 0 && random() < 0.5) {
      const [chosen = 0] = inHand.splice(Math.floor(random() * inHand.length), 1);
      settled.add(chosen);
      if (random() < 0.1) reject(chosen, true);
      else acknowledge(chosen);
    }
    if (random() < 0.2) await turn();
  }
  for (const tag of inHand) {
    settled.add(tag);
    acknowledge(tag);
  }
  await turn();
  assert.deepEqual([unanswered.size, settled.size], [0, 0]);
});
