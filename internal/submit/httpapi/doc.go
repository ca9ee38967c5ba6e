// Package httpapi is the door for programs that send over HTTP: POST
// /v1/messages with fields as JSON or with a whole MIME message, and POST
// /v1/messages/batch with one message for many recipients. It reads and checks
// requests, builds messages (internal/compose) and hands them to intake; an
// answer 202 is given only after the message is on stable storage. docs/
// http-messages.md is its page.
//
// Sender is the part behind the JSON, for doors that read other shapes
// (submit/dropin): permissions, rate, idempotency and hand-over are there.
//
// It decides nothing about delivery, opens no port and keeps nothing: what
// makes a repeated request harmless is stored by the spool in the commit that
// stores the message. It starts no goroutine that outlives a call.
package httpapi
