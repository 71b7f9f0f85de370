"""A run through the services.

run: the whole of it, with directory, cluster and pictures.
supervisor: the loop: issue what is allowed, wait, take what came.
traffic: what is on its way between the services.
recovery: what happens when one dies, hangs or fails.
crew, calls: the services, and the calls of them that are under way.
actors: Ray as their host.
saves, evaluations, faults: when to save, to evaluate, to give up.
attach: evaluators of another job.
"""
