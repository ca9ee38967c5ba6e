// Package daemon builds every part of `mailout serve` by hand, in one visible
// order, starts them, applies a changed configuration, and stops them in the
// reverse order. It decides nothing about mail: it joins.
//
// Its sentinel hears of every examination of the identity: changes go to log and
// journal, what the guard would hold goes to planner and queue, and its keeper
// publishes visible addresses that changed, if it is told to.
//
// It is called by cmd/mailout. Its goroutines are the journal's housekeeping,
// the keeper's, and those of the parts, which the parts own; Stop ends them all and waits.
package daemon
