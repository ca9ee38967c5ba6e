// Package control carries out what an operator orders of queued mail: hold,
// release, retry and cancel by what a Selector names, however many deliveries
// that are, and destinations that are held for all mail to come.
//
// It selects, counts and keeps the list of held destinations in a file of the
// spool's directory; how an order meets a delivery is the queue's business
// (queue.Queue.Command). It never reads all it works on into memory, decides
// nothing by itself but the end of a hold that has expired, and delivers
// nothing. It is called by admin, and built by daemon.
//
// Controller.Start owns one goroutine, which ends holds; Stop ends it. Run
// starts a few for the time of the call.
package control
