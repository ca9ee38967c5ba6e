// Run as: node resend.mjs BASE_URL TOKEN. Prints what the client gives back, as JSON.
import { Resend } from "resend";

const [base, token] = process.argv.slice(2);
const resend = new Resend(token, { baseUrl: base });
const out = {};

out.sent = await resend.emails.send({
  from: "Läden & Söhne <shop@sender.example>",
  to: ["ann@example.net", "Bob, the Builder <bob@example.net>"],
  cc: "carl@example.net",
  bcc: ["hidden@example.net"],
  replyTo: "help@sender.example",
  subject: "Resend: Grüße 👋",
  html: '<p>Grüße <img src="cid:logo"></p>',
  text: "Grüße\n",
  headers: { "X-Entity-Ref-ID": "4711" },
  tags: [{ name: "category", value: "welcome" }],
  attachments: [
    { filename: "Übersicht.txt", content: Buffer.from("hello") },
    { filename: "logo.png", content: Buffer.from([1, 2, 255]).toString("base64"), contentType: "image/png", contentId: "logo" },
  ],
}, { idempotencyKey: "resend-1" });
out.again = await resend.emails.send({ from: "shop@sender.example", to: "ann@example.net", subject: "other", text: "x" }, { idempotencyKey: "resend-1" });
const twice = { from: "shop@sender.example", to: "ann@example.net", subject: "Resend: once", text: "x" };
out.once = [await resend.emails.send(twice, { idempotencyKey: "resend-2" }), await resend.emails.send(twice, { idempotencyKey: "resend-2" })];
out.batch = await resend.batch.send([
  { from: "shop@sender.example", to: "ann@example.net", subject: "Resend: batch 1", text: "1" },
  { from: "shop@sender.example", to: "bob@example.net", subject: "Resend: batch 2", text: "2" },
]);
out.permissive = await resend.batch.send([
  { from: "shop@sender.example", to: "ann@example.net", subject: "Resend: batch 3", text: "3" },
  { from: "shop@sender.example", to: "not an address", subject: "Resend: never", text: "4" },
], { batchValidation: "permissive" });
out.status = await resend.emails.get(out.sent.data?.id);
out.unknown = await resend.emails.get("01ARYZ6S410000000000000000");
out.foreign = await resend.emails.send({ from: "eve@other.example", to: "ann@example.net", subject: "Resend: never", text: "x" });
out.injected = await resend.emails.send({ from: "shop@sender.example", to: "ann@example.net", subject: "Resend: never\r\nBcc: eve@other.example", text: "x" });
out.template = await resend.emails.send({ from: "shop@sender.example", to: "ann@example.net", subject: "Resend: never", template: { id: "t" } });
out.stranger = await new Resend("re_wrong", { baseUrl: base }).emails.send({ from: "shop@sender.example", to: "ann@example.net", subject: "Resend: never", text: "x" });
console.log(JSON.stringify(out));
