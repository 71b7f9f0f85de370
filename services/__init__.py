"""DreamerV2 as a service on Ray: collector, replay server, learner, evaluator, one supervisor."""
