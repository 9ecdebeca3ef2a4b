"""What follows from a scene by common sense: some fifty situations of a region *and* its context.

A situation names what must be seen (its premises) and answers several questions about the pointed
region. Those listed first are the more particular ones, and the first that holds counts: a child
with a ball is about to throw it *for the dog* where there is a dog, and to start a game where there
is none. The rules are applied to truth by the annotator and the benchmark files, and to beliefs
read from a verbalization by the rule-based teacher; both by the same code.
"""

from dataclasses import dataclass, field

from lskd_nb.mini.scenes.world import PEOPLE, Entity, Scene

QUESTION_TYPES = ("next", "why", "feel", "role", "before")


@dataclass(frozen=True)
class Situation:
    """Premises ("" or () reads: any) and answers by question type.

    ``near`` asks the same of some other region.
    """

    name: str
    kinds: tuple[str, ...]
    held: str = ""
    pose: str = ""
    place: str = ""
    weather: str = ""
    time: str = ""
    near: "Near | None" = None
    answers: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Near:
    """Another region that a situation needs."""

    kinds: tuple[str, ...]
    held: str = ""
    pose: str = ""


SITUATIONS = (
    # people with something in their hands
    Situation(
        "shelter",
        PEOPLE,
        held="umbrella",
        weather="rainy",
        answers=dict(next="walk on under the umbrella", why="to stay dry", feel="glad to be dry"),
    ),
    Situation(
        "shade",
        PEOPLE,
        held="umbrella",
        answers=dict(
            next="rest in the shade", why="to be ready for bad weather", feel="well prepared"
        ),
    ),
    Situation(
        "fetch",
        PEOPLE,
        held="ball",
        near=Near(("dog",)),
        answers=dict(
            next="throw the ball for the dog",
            why="to play with the dog",
            role="the one who plays fetch",
        ),
    ),
    Situation(
        "game",
        PEOPLE,
        held="ball",
        answers=dict(next="start a ball game", why="to find a team to play with", role="a player"),
    ),
    Situation(
        "concert",
        PEOPLE,
        held="guitar",
        place="stage",
        answers=dict(
            next="play the first song",
            why="to entertain the audience",
            role="the star of the concert",
        ),
    ),
    Situation(
        "busker",
        PEOPLE,
        held="guitar",
        answers=dict(
            next="collect some coins", why="to earn money from strangers", role="a street musician"
        ),
    ),
    Situation(
        "angler",
        PEOPLE,
        held="rod",
        answers=dict(next="pull out a fish", why="to catch dinner", before="put bait on the hook"),
    ),
    Situation(
        "cook",
        PEOPLE,
        held="pan",
        answers=dict(
            next="fry some eggs", why="to prepare breakfast", before="turned on the stove"
        ),
    ),
    Situation(
        "farm hand",
        PEOPLE,
        held="broom",
        place="farm",
        answers=dict(
            next="clean out the barn", why="to look after the animals", role="a farm worker"
        ),
    ),
    Situation(
        "sweeper",
        PEOPLE,
        held="broom",
        answers=dict(next="sweep the ground", why="to clean up after people", role="a cleaner"),
    ),
    Situation(
        "night train",
        PEOPLE,
        held="suitcase",
        time="night",
        answers=dict(
            next="catch the night train", why="to travel until morning", role="a late traveler"
        ),
    ),
    Situation(
        "traveler",
        PEOPLE,
        held="suitcase",
        answers=dict(next="leave on a journey", why="to go on vacation", role="a traveler"),
    ),
    Situation(
        "bouquet on stage",
        PEOPLE,
        held="flowers",
        place="stage",
        answers=dict(next="take a bow", why="to thank the audience", before="received applause"),
    ),
    Situation(
        "bouquet",
        PEOPLE,
        held="flowers",
        answers=dict(
            next="hand over the flowers", why="to make somebody smile", before="bought a present"
        ),
    ),
    Situation(
        "photographer",
        PEOPLE,
        held="camera",
        answers=dict(next="take a photo", why="to remember this moment", role="a photographer"),
    ),
    Situation(
        "reading lamp",
        PEOPLE,
        held="book",
        time="night",
        answers=dict(
            next="go to bed", why="to finish the last chapter", feel="too gripped to sleep"
        ),
    ),
    Situation(
        "actor",
        PEOPLE,
        held="book",
        place="stage",
        answers=dict(next="read the lines aloud", why="to learn the part", role="an actor"),
    ),
    Situation(
        "reader",
        PEOPLE,
        held="book",
        answers=dict(next="turn the page", why="to enjoy a story", role="a reader"),
    ),
    Situation(
        "balloon",
        PEOPLE,
        held="balloon",
        answers=dict(
            next="let the balloon fly",
            why="to celebrate a birthday",
            before="was at a birthday party",
        ),
    ),
    # people with empty hands
    Situation(
        "rain run",
        PEOPLE,
        pose="running",
        weather="rainy",
        answers=dict(
            next="hide under a roof", why="to escape the rain", before="was surprised by the rain"
        ),
    ),
    Situation(
        "jogger",
        PEOPLE,
        pose="running",
        answers=dict(next="stop to drink water", why="to stay fit", role="a jogger"),
    ),
    Situation(
        "greeting",
        PEOPLE,
        pose="waving",
        near=Near(PEOPLE),
        answers=dict(next="say hello", why="to greet a friend", before="recognized a friend"),
    ),
    Situation(
        "farewell",
        PEOPLE,
        pose="waving",
        answers=dict(next="call for attention", why="to be noticed", before="lost the others"),
    ),
    Situation(
        "night rest",
        PEOPLE,
        pose="sitting",
        time="night",
        answers=dict(
            next="look at the stars", why="to enjoy the silence", feel="tired after a long day"
        ),
    ),
    Situation(
        "rest",
        PEOPLE,
        pose="sitting",
        answers=dict(next="stand up again", why="to take a break", feel="relaxed"),
    ),
    Situation(
        "waiting",
        PEOPLE,
        pose="standing",
        answers=dict(next="keep waiting", why="to wait for somebody", feel="bored"),
    ),
    # animals
    Situation(
        "dog and ball",
        ("dog",),
        near=Near(PEOPLE, held="ball"),
        answers=dict(next="fetch the ball", feel="playful"),
    ),
    Situation(
        "cat hunt",
        ("cat",),
        near=Near(("bird",)),
        answers=dict(next="pounce on the bird", feel="ready to hunt"),
    ),
    Situation(
        "bird alarm",
        ("bird",),
        near=Near(("cat",)),
        answers=dict(next="flee from the cat", feel="afraid of the cat"),
    ),
    Situation(
        "cat and dog",
        ("cat",),
        near=Near(("dog",)),
        answers=dict(next="hiss at the dog", feel="suspicious of the dog"),
    ),
    Situation(
        "dog and cat",
        ("dog",),
        near=Near(("cat",)),
        answers=dict(next="bark at the cat", feel="jealous of the cat"),
    ),
    Situation(
        "nap",
        ("dog", "cat"),
        pose="sleeping",
        answers=dict(next="wake up and stretch", feel="safe and sleepy"),
    ),
    Situation(
        "racer", ("dog", "cat"), pose="running", answers=dict(next="run in circles", feel="wild")
    ),
    Situation("guard", ("dog", "cat"), answers=dict(next="follow its owner", feel="loyal")),
    Situation(
        "gallop",
        ("horse",),
        pose="running",
        answers=dict(next="jump over a fence", feel="strong and free"),
    ),
    Situation(
        "grazing",
        ("horse", "cow", "sheep"),
        pose="eating",
        answers=dict(next="chew some more grass", feel="content with the grass"),
    ),
    Situation(
        "wet animal",
        ("horse", "cow", "sheep"),
        weather="rainy",
        answers=dict(next="trot into the stable", feel="grumpy in the rain"),
    ),
    Situation("mount", ("horse",), answers=dict(next="carry a rider", feel="calm and strong")),
    Situation("dairy", ("cow",), answers=dict(next="give milk", feel="heavy with milk")),
    Situation("wool", ("sheep",), answers=dict(next="be sheared", feel="warm in its wool")),
    Situation(
        "in the air",
        ("bird",),
        pose="flying",
        answers=dict(next="land on a roof", feel="light as a feather"),
    ),
    Situation("crumbs", ("bird",), answers=dict(next="peck at some crumbs", feel="cheeky")),
    # things
    Situation(
        "wet road",
        ("car",),
        weather="rainy",
        answers=dict(role="a dry way home", before="drove through the storm"),
    ),
    Situation(
        "drive",
        ("car",),
        answers=dict(role="a means of transport", before="was washed and polished"),
    ),
    Situation(
        "rusting",
        ("bicycle",),
        weather="rainy",
        answers=dict(role="a slippery ride", before="was left out in the rain"),
    ),
    Situation(
        "parked bicycle",
        ("bicycle",),
        answers=dict(role="a healthy way to travel", before="was locked by its owner"),
    ),
    Situation(
        "no sailing",
        ("boat",),
        weather="rainy",
        answers=dict(role="a risky shelter at sea", before="was pulled ashore in time"),
    ),
    Situation(
        "sailing",
        ("boat",),
        answers=dict(role="a way across the water", before="came back with fish"),
    ),
    Situation(
        "camp night",
        ("tent",),
        time="night",
        answers=dict(role="a bedroom for tonight", before="was lit by a torch"),
    ),
    Situation(
        "camp", ("tent",), answers=dict(role="a home for campers", before="was put up with poles")
    ),
    Situation(
        "wet bench",
        ("bench",),
        weather="rainy",
        answers=dict(role="a seat nobody wants now", before="got wet"),
    ),
    Situation(
        "seat",
        ("bench",),
        answers=dict(role="a place to sit down", before="was painted by the city"),
    ),
    Situation(
        "rain tree",
        ("tree",),
        weather="rainy",
        answers=dict(role="a roof against the rain", before="soaked up the water"),
    ),
    Situation(
        "shade tree",
        ("tree",),
        answers=dict(role="a source of shade", before="was planted long ago"),
    ),
    Situation(
        "lit lamp",
        ("lamp",),
        time="night",
        answers=dict(role="a guide through the dark", before="was switched on at dusk"),
    ),
    Situation(
        "stage light",
        ("lamp",),
        place="stage",
        answers=dict(role="a spotlight", before="was hung by the crew"),
    ),
    Situation(
        "unlit lamp",
        ("lamp",),
        answers=dict(role="a useless light for now", before="was switched off at dawn"),
    ),
)
ANSWERS = {(kind, text): s for s in SITUATIONS for kind, text in s.answers.items()}


def holds_for(entity: Entity, wanted: Near) -> bool:
    """Whether another region is what a situation needs nearby."""
    return (
        entity.kind in wanted.kinds
        and wanted.held in ("", entity.held)
        and wanted.pose in ("", entity.pose)
    )


def situation_of(scene: Scene, region: int) -> tuple[Situation, int | None] | None:
    """The situation of ``region`` and the other region it depends on (None where it needs none).

    None where nothing is known of the region's kind. Unknown attributes ("") satisfy no premise.
    """
    entity = scene.entities[region]
    for situation in SITUATIONS:
        if entity.kind not in situation.kinds:
            continue
        asked = (situation.held, situation.pose, situation.place, situation.weather, situation.time)
        seen = (entity.held, entity.pose, scene.place, scene.weather, scene.time)
        if any(a and a != s for a, s in zip(asked, seen, strict=True)):
            continue
        if situation.pose and not situation.held and entity.held:
            continue  # "sitting" and the like are about empty hands
        if situation.near is None:
            return situation, None
        for other, neighbour in enumerate(scene.entities):
            if other != region and holds_for(neighbour, situation.near):
                return situation, other
    return None
