// Package doctor checks what direct delivery stands on: that no router is in
// the way (or, if one is, that it works), that the DNS servers answer
// honestly, and that the host name which this machine introduces itself with
// leads to the address that receivers see; then everything else that receivers
// want of a sender (reverse records, SPF, DKIM, DMARC, block lists, port 25,
// the clock, the disk). Each finding says what was asked, what came, which
// refusal it prevents, the exact record or command that mends it, and who can
// make it.
//
// It must not change anything, must not send mail, and gives strangers'
// servers no more than EHLO and QUIT. It knows nothing of the configuration
// file: daemon makes an Identity of it. It decides nothing about mail: what a
// failing identity means for deliveries is the queue's and daemon's business.
//
// `mailout doctor`, `mailout setup` and `mailout records` call Examine; daemon
// owns a Watch. The goroutines of an examination end before Examine returns,
// those of a Watch in its Stop.
package doctor
