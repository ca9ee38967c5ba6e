// Package dropin lets programs that use a client of Resend, SendGrid or
// Postmark send here: it answers the requests of those clients at the paths
// they call, so that setting a base URL and a token is enough. docs/drop-in.md
// says what is understood.
//
// It translates, and does nothing else: a request becomes messages of
// submit/httpapi, whose Sender checks and takes them, and a refusal becomes an
// error in the form that the client tells its program. What a request asks for
// and this daemon has not is refused, or, where mail goes out as well without
// it (opens that are counted), ignored with a note in X-Mailout-Note: never in
// silence.
//
// It fetches nothing: an attachment is in the request or is refused. It is
// called by admin, which signs in, and by the daemon, and starts no goroutine.
package dropin
