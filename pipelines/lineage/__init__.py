"""Which tables the steps of runs read and write, told to others in events of OpenLineage (openlineage.io, version 2-0-2).

`messages` makes them, the store keeps them until they are sent, `delivery` sends them. OpenLineage's
own classes are loaded when the first event is made: who tells nobody does not wait for them.
"""
