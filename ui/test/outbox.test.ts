import { describe, expect, it } from "vitest";
import { Fault } from "../src/api";
import { Outbox, type Letter } from "../src/review/outbox";

function outbox(answers: (Fault | null)[]) {
  const sent: string[] = [];
  const refused: string[] = [];
  let kept: Letter[] = [];
  const box = new Outbox(
    async (letter) => {
      sent.push(letter.key);
      const fault = answers.shift();
      if (fault) throw fault;
    },
    { read: () => [], write: (letters) => (kept = letters) },
    () => {},
    (fault, letter) => refused.push(`${letter.key}: ${fault.message}`),
    async () => {},
  );
  return { box, sent, refused, kept: () => kept };
}

const letter = (key: string): Letter => ({ path: "/p", body: {}, key });
const lost = new Fault("lost", "connection_lost", 0);

describe("the outbox", () => {
  it("sends a judgement again with the same key when the connection was lost", async () => {
    const { box, sent, kept } = outbox([lost, lost, null]);
    box.add(letter("k1"));
    await box.flush();
    expect(sent).toEqual(["k1", "k1", "k1"]);
    expect(kept()).toEqual([]);
  });
  it("keeps the order", async () => {
    const { box, sent } = outbox([lost, null, null]);
    box.add(letter("k1"));
    box.add(letter("k2"));
    await box.flush();
    expect(sent).toEqual(["k1", "k1", "k2"]);
  });
  it("says what the server refused, and goes on", async () => {
    const { box, sent, refused } = outbox([new Fault("the lease is over", "conflict", 409), null]);
    box.add(letter("k1"));
    box.add(letter("k2"));
    await box.flush();
    expect(refused).toEqual(["k1: the lease is over"]);
    expect(sent).toEqual(["k1", "k2"]);
  });
  it("retries an overloaded server", async () => {
    const { box, sent } = outbox([new Fault("busy", "overloaded", 503), null]);
    box.add(letter("k1"));
    await box.flush();
    expect(sent).toEqual(["k1", "k1"]);
  });
});
