// Package transport carries out deliveries: it tries the hosts of a route in
// order, dials from the right source, keeps one session a worker while there
// is work for it, and says for every recipient what the attempt came to.
//
// trouble.go alone decides what a failure means. Everything else here only
// moves facts about: a Failure from smtpclient or from dialling goes in, a
// Result comes out.
//
// It must not decide when something is tried again or how many sessions a
// site may have (queue, shape), where mail goes (route), or what a sender is
// told (dsn). It stores nothing; content is read through the one method of
// the spool that Options names.
//
// The queue calls Carry, a worker, in goroutines of its own and waits for
// them. Transport itself starts no goroutine: a session is read and written by
// its worker, and what ends with a context does so through context.AfterFunc.
package transport
