// Run as: node nodemailer.mjs HOST PORT USER PASSWORD. Prints what the client gives back, as JSON.
import nodemailer from "nodemailer";

const [host, port, user, pass] = process.argv.slice(2);
const tls = { rejectUnauthorized: false }; // the test's certificate is its own
const out = {};
const tell = async (auth, mail) => {
  const transport = nodemailer.createTransport({ host, port: Number(port), requireTLS: true, tls, auth });
  try {
    const info = await transport.sendMail(mail);
    return { response: info.response, accepted: info.accepted, rejected: info.rejected };
  } catch (err) {
    return { code: err.code, responseCode: err.responseCode, response: err.response, other: err.response ? undefined : String(err) };
  } finally {
    transport.close();
  }
};

const auth = { user, pass };
out.sent = await tell(auth, {
  from: '"Läden & Söhne" <shop@sender.example>',
  to: ["ann@example.net", '"Bob, the Builder" <bob@example.net>'],
  cc: "carl@example.net",
  bcc: "hidden@example.net",
  replyTo: "help@sender.example",
  subject: "nodemailer: Grüße 👋",
  text: "Grüße\n",
  html: '<p>Grüße <img src="cid:logo"></p>',
  headers: { "X-Entity-Ref-ID": "4711" },
  attachments: [
    { filename: "Übersicht.txt", content: "hello" },
    { filename: "logo.png", content: Buffer.from([1, 2, 255]), cid: "logo" },
  ],
});
out.login = await tell({ ...auth, method: "LOGIN" }, { from: "shop@sender.example", to: "ann@example.net", subject: "nodemailer: LOGIN", text: "x" });
out.foreign = await tell(auth, { from: "eve@other.example", to: "ann@example.net", subject: "nodemailer: never", text: "x" });
out.stranger = await tell({ user, pass: "wrong" }, { from: "shop@sender.example", to: "ann@example.net", subject: "nodemailer: never", text: "x" });
console.log(JSON.stringify(out));
