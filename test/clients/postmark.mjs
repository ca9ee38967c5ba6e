// Run as: node postmark.mjs BASE_URL TOKEN. Prints what the client gives back, as JSON.
import * as postmark from "postmark";

const [base, token] = process.argv.slice(2);
const { ServerClient } = postmark.default ?? postmark;
const options = { requestHost: new URL(base).host, useHttps: false };
const client = new ServerClient(token, options);
const out = {};
const tell = async (work) => {
  try {
    return await work();
  } catch (err) {
    return { error: err.name, code: err.code, status: err.statusCode, message: err.message };
  }
};

out.sent = await tell(() => client.sendEmail({
  From: "Läden & Söhne <shop@sender.example>",
  To: 'ann@example.net, "Bob, the Builder" <bob@example.net>',
  Cc: "carl@example.net",
  Bcc: "hidden@example.net",
  ReplyTo: "help@sender.example",
  Subject: "Postmark: Grüße 👋",
  HtmlBody: '<p>Grüße <img src="cid:logo"></p>',
  TextBody: "Grüße\n",
  Tag: "welcome",
  Headers: [{ Name: "X-Entity-Ref-ID", Value: "4711" }],
  Metadata: { order: "4711" },
  MessageStream: "outbound",
  TrackOpens: true,
  Attachments: [
    { Name: "Übersicht.txt", Content: Buffer.from("hello").toString("base64"), ContentType: "text/plain", ContentID: null },
    { Name: "logo.png", Content: Buffer.from([1, 2, 255]).toString("base64"), ContentType: "image/png", ContentID: "cid:logo" },
  ],
}));
out.batch = await tell(() => client.sendEmailBatch([
  { From: "shop@sender.example", To: "ann@example.net", Subject: "Postmark: batch 1", TextBody: "1" },
  { From: "eve@other.example", To: "ann@example.net", Subject: "Postmark: never", TextBody: "2" },
  { From: "shop@sender.example", To: "bob@example.net", Subject: "Postmark: batch 3", TextBody: "3" },
]));
out.foreign = await tell(() => client.sendEmail({ From: "eve@other.example", To: "ann@example.net", Subject: "Postmark: never", TextBody: "x" }));
out.injected = await tell(() => client.sendEmail({ From: "shop@sender.example", To: "ann@example.net", Subject: "Postmark: never\r\nBcc: eve@other.example", TextBody: "x" }));
out.template = await tell(() => client.sendEmailWithTemplate({ From: "shop@sender.example", To: "ann@example.net", TemplateId: 1, TemplateModel: {} }));
out.stranger = await tell(() => new ServerClient("wrong", options).sendEmail({ From: "shop@sender.example", To: "ann@example.net", Subject: "Postmark: never", TextBody: "x" }));
console.log(JSON.stringify(out));
