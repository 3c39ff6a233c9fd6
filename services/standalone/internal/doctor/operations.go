package doctor

func operations(o *Observed) []Finding {
	return (&subject{Observed: o}).judge(area("operations")...)
}

func operationsReachable(s *subject) (list []Finding) {
	own := s.Own
	if own == nil {
		return skip("no operations port was given", s.giveOwn())
	}
	for _, text := range own.Errs {
		list = append(list, fail(text, "What this process says about itself is not known: whether it leads, what it needs of the budget, when it started.",
			"Check that it runs, and that the URL is that of its operations port (9811 of an exposer, 9821 of a collector, by default).")...)
	}
	switch {
	case len(list) > 0:
		return list
	case len(own.Samples) == 0:
		return skip(own.From+" has no metric of Weir about itself", s.giveOwn())
	}
	return pass("%s has Weir's metrics about itself", own.From)
}

func operationsReady(s *subject) (list []Finding) {
	if s.Own == nil || s.Own.Asked == 0 {
		return skip("no operations port was asked", "WEIR_OPERATIONS_URLS")
	}
	for _, text := range s.Own.NotReady {
		list = append(list, fail(text, "This process does not do its work, or not all of it.",
			"The message has the reason, and what to do where that is known.")...)
	}
	if len(list) > 0 {
		return list
	}
	return pass("%d of %d processes are ready", s.Own.Asked, s.Own.Asked)
}

// giveOwn is what to give so that Weir's metrics about itself are known.
func (o *Observed) giveOwn() string {
	if o.Own != nil && len(o.Own.Errs) > 0 {
		return "operations ports that answer: see operations.reachable"
	}
	return "WEIR_OPERATIONS_URLS, or a Prometheus that scrapes the operations ports"
}
