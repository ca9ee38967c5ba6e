// Package unsubscribe lets people leave: it gives outgoing mail of the streams
// that want it the fields of one-click unsubscription (RFC 8058, RFC 2369) with a
// link for the recipient alone, serves what that link leads to, and puts who
// follows it on the suppression list, for the stream of the mail. It also makes
// the Feedback-ID field.
//
// It must not send mail, nor decide what becomes of it: the carrier asks for
// fields, the suppression list stops mail. A link is worth nothing but to leave
// one stream with one address; nothing else is served where it leads, and no
// answer tells more about mail than the link did. Fetching a link changes
// nothing. It is called by daemon, and by config for its templates.
//
// A Desk owns one goroutine between Start and Stop, which renews the key; a
// Server owns those of its listener and its connections.
package unsubscribe
