// Package standing remembers how we stand with receivers, for each site and,
// where a reply blames our address, for each source there: which source is not
// used for a while, which site gets less than usual, and where a router stands
// in for direct delivery ([router] use = "fallback").
//
// It learns from what attempts came to, by rules: an operator's ([[automation]])
// and the shipped ones (replies.tsv). Every effect is bounded and ends by
// itself: a suspension of an address lasts a day at most, a slowing fades with a
// half-life, and where a router stands in, one delivery tries the direct way
// again after a while.
//
// It decides nothing about mail itself: a result that another route can mend is
// marked (mta.Result.Elsewhere), and the planner asks what holds for a route.
// It never dials and knows nothing of the queue's order. It is called by the
// daemon's planner, from many workers at once.
//
// # Bounds
//
// 10,000 sites are remembered, the longest unused leave first, and 64 sources of
// each. A site without anything to say is forgotten.
//
// # Durability
//
// What holds is kept as notes of the spool ("standing/" and the site's name),
// written in the background: what the last second before a crash taught is
// learnt again.
//
// # Goroutines
//
// Start makes one, which writes notes, tells of changes and forgets; Stop ends
// it and waits.
package standing
