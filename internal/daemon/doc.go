// Package daemon builds every part of `mailout serve` by hand, in one visible
// order, starts them, applies a changed configuration, and stops them in the
// reverse order. It decides nothing about mail: it joins.
//
// It is called by cmd/mailout. Its goroutines are the journal's housekeeping
// and those of the parts, which the parts own; Stop ends them all and waits.
package daemon
