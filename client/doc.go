// Package client hands messages to a mailout daemon over HTTP and asks what
// became of them.
//
//	c, err := client.New("https://mailout.example.com:8025", os.Getenv("MAILOUT_TOKEN"))
//	…
//	receipt, err := c.Send(ctx, &client.Message{
//		From: "Shop <shop@example.com>", To: []string{"ann@example.net"},
//		Subject: "Your order", Text: "It is on its way.\n",
//	})
//
// When Send returns a receipt the message is on the daemon's stable storage;
// from then on every recipient reaches one final state, which Status and Events
// tell.
//
// Send tries again by itself when the daemon cannot be reached, is busy or
// starts anew. That is safe: every message goes with an idempotency key, under
// which the daemon takes it once (for 24 hours, also across restarts). A program
// that may itself end in the middle sets Message.Key, and so may repeat the call
// after its own restart.
//
// The package uses the standard library alone and starts no goroutines. A
// Client may be used by many goroutines at once.
package client
