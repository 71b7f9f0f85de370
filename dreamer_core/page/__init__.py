"""The page of `dreamer report`: runs as one HTML file that needs nothing else.

page      what the page says, section after section        (begin here)
overview  its begin, and the table of runs
contents  what it is made of: records, looks, scores
records   runs as they lie there, and which of them belong together
scored    their scores, aggregates and warnings
learning  their curves, and bands over seeds
looks     what is shown of a run besides its log           play     an episode of it
pictures  what a world model predicts, and an episode, as moving pictures
settings  the config, and what differs from its preset
charts    charts as SVG    markup  HTML in which nothing is forgotten to be escaped
"""
