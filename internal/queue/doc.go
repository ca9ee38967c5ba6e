// Package queue is the scheduler: it decides which delivery is tried when, at
// which site, over how many connections, and makes the outcome durable before
// it forgets anything. docs/queue.md has the goals, the method and the limits.
//
// It knows order, never bytes, and acts on a result's class and scope alone;
// it never reads a reply, dials, or looks anything up. What it needs from
// others are the small interfaces of road.go; daemon joins them.
//
// Intake calls Add, admin asks Why, Summary and Sites, daemon calls Start and
// Stop. The Queue owns all goroutines: the event loop, which alone owns the
// order (there is no mutex), and the workers, planners, pagers, clerks and
// settlers that the loop bounds. Stop waits for them.
package queue
