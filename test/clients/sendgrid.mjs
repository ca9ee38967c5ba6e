// Run as: node sendgrid.mjs BASE_URL TOKEN. Prints what the client gives back, as JSON.
import sgMail from "@sendgrid/mail";

const [base, token] = process.argv.slice(2);
sgMail.setApiKey(token);
sgMail.client.setDefaultRequest("baseUrl", base);
const out = {};
const tell = async (work) => {
  try {
    const [response] = await work();
    return { status: response.statusCode, id: response.headers["x-message-id"], note: response.headers["x-mailout-note"], body: response.body };
  } catch (err) {
    return { code: err.code, errors: err.response?.body?.errors, other: err.response ? undefined : String(err) };
  }
};

out.sent = await tell(() => sgMail.send({
  from: { email: "shop@sender.example", name: "Läden & Söhne" },
  to: ["ann@example.net", { email: "bob@example.net", name: "Bob, the Builder" }],
  cc: "carl@example.net",
  bcc: "hidden@example.net",
  replyTo: "help@sender.example",
  subject: "SendGrid: Grüße 👋",
  text: "Grüße\n",
  html: '<p>Grüße <img src="cid:logo"></p>',
  headers: { "X-Entity-Ref-ID": "4711" },
  categories: ["welcome"],
  customArgs: { order: "4711" },
  trackingSettings: { clickTracking: { enable: true } },
  attachments: [
    { filename: "Übersicht.txt", content: Buffer.from("hello").toString("base64"), type: "text/plain", disposition: "attachment" },
    { filename: "logo.png", content: Buffer.from([1, 2, 255]).toString("base64"), type: "image/png", disposition: "inline", contentId: "logo" },
  ],
}));
out.many = await tell(() => sgMail.sendMultiple({
  from: "shop@sender.example", to: ["ann@example.net", "bob@example.net"], subject: "SendGrid: many", text: "x",
}));
out.personal = await tell(() => sgMail.send({
  from: "shop@sender.example", subject: "SendGrid: Hi {{name}}", text: "Dear {{name}}, {{other}}",
  personalizations: [
    { to: "ann@example.net", substitutions: { name: "Ann", other: "one" } },
    { to: "bob@example.net", substitutions: { name: "Bob", other: "{{name}}" } },
  ],
}));
out.foreign = await tell(() => sgMail.send({ from: "eve@other.example", to: "ann@example.net", subject: "SendGrid: never", text: "x" }));
out.injected = await tell(() => sgMail.send({ from: "shop@sender.example", to: "ann@example.net", subject: "SendGrid: never", text: "x", headers: { "X-A": "b\r\nBcc: eve@other.example" } }));
out.template = await tell(() => sgMail.send({ from: "shop@sender.example", to: "ann@example.net", subject: "SendGrid: never", templateId: "d-1", dynamicTemplateData: { a: 1 } }));
out.sandbox = await tell(() => sgMail.send({ from: "shop@sender.example", to: "ann@example.net", subject: "SendGrid: never", text: "x", mailSettings: { sandboxMode: { enable: true } } }));
sgMail.setApiKey("SG.wrong");
sgMail.client.setDefaultRequest("baseUrl", base);
out.stranger = await tell(() => sgMail.send({ from: "shop@sender.example", to: "ann@example.net", subject: "SendGrid: never", text: "x" }));
console.log(JSON.stringify(out));
