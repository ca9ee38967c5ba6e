// Package world joins the parts of mailout, from intake to the wire, over a
// simulated internet (mtatest.World) and a file system in memory, and holds
// them to the promises of docs/design.md, section 2. One seed makes the sites
// and their faults, the mail, the crashes, restarts and clock jumps; all of it
// happens in the virtual time of testing/synctest. docs/simulation.md tells
// what is checked and what it found.
//
// It must not decide what mailout does: it only watches. `go test` calls it;
// all goroutines live in the bubble of their seed and end with it.
package world
