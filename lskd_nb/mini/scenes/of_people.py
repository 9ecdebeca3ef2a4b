"""What follows for a person with empty hands, from the face, the pose and what is around; the more
particular first.
"""

from lskd_nb.mini.scenes.situation import Near, Situation
from lskd_nb.mini.scenes.world import PEOPLE, THINGS

OF_PEOPLE = (
    Situation(
        "collision",
        PEOPLE,
        pose="running",
        toward=THINGS,
        answers=dict(
            next="bump into something hard",
            why="to try a dangerous shortcut",
            before="looked the other way",
        ),
        link="nobody who runs can stop at once",
    ),
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
        "late run",
        PEOPLE,
        pose="running",
        time="night",
        answers=dict(
            next="jump on the last train",
            why="to get home in time",
            before="was late for the train",
        ),
        link="the last train does not wait",
    ),
    Situation(
        "jogger",
        PEOPLE,
        pose="running",
        answers=dict(next="stop to drink water", why="to stay fit", before="put on running shoes"),
    ),
    Situation(
        "without umbrella",
        PEOPLE,
        pose="waving",
        weather="rainy",
        answers=dict(
            next="ask for an umbrella", why="to get out of the rain", before="lost the umbrella"
        ),
        link="umbrellas keep the rain off",
    ),
    Situation(
        "greeting",
        PEOPLE,
        pose="waving",
        near=Near(("child",)),
        answers=dict(
            next="say hello to the child", why="to greet the child", before="recognized the child"
        ),
        link="children wave back",
    ),
    Situation(
        "stranded",
        PEOPLE,
        pose="waving",
        time="night",
        answers=dict(
            next="stop a car", why="to get home at night", before="was left behind in the dark"
        ),
        link="cars take people home",
    ),
    Situation(
        "farewell",
        PEOPLE,
        pose="waving",
        answers=dict(next="call for attention", why="to be noticed", before="lost the others"),
    ),
    Situation(
        "scolding",
        PEOPLE,
        face="angry",
        near=Near(("child",)),
        answers=dict(
            next="shout at the child", why="to win the quarrel", feel="furious with the child"
        ),
        link="children try to win every quarrel",
    ),
    Situation(
        "comfort",
        ("child",),
        face="crying",
        near=Near(("woman",)),
        answers=dict(next="ask to be carried", why="to find comfort", feel="in need of a hug"),
        link="tears call for a hug",
    ),
    Situation(
        "amusement",
        PEOPLE,
        face="smiling",
        near=Near(("child",)),
        answers=dict(
            next="start a game with the child",
            why="to make the child smile",
            feel="delighted by the child",
        ),
        link="a smile opens the heart of children",
    ),
    Situation(
        "petting",
        PEOPLE,
        near=Near(("dog",)),
        answers=dict(next="pet the dog", why="to feel the soft fur", feel="fond of the dog"),
        link="soft fur invites a hand",
    ),
    Situation(
        "keeper",
        PEOPLE,
        near=Near(("horse",)),
        answers=dict(next="feed the horse", why="to care for the horse", feel="proud of the horse"),
        link="big animals are always hungry",
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
        "sorrow",
        PEOPLE,
        face="crying",
        answers=dict(
            next="wipe away the tears", why="to be alone with the grief", feel="sad about a loss"
        ),
        link="tears tell of a loss",
    ),
    Situation(
        "grudge",
        PEOPLE,
        face="angry",
        answers=dict(
            next="stamp on the ground", why="to let out the anger", feel="treated unfairly"
        ),
        link="anger wants to get out",
    ),
    Situation(
        "rest",
        PEOPLE,
        pose="sitting",
        answers=dict(next="stand up again", why="to take a break", feel="relaxed"),
    ),
    Situation(
        "wet wait",
        PEOPLE,
        pose="standing",
        weather="rainy",
        answers=dict(next="go inside", why="to wait until the rain is over", feel="wet and grumpy"),
        link="storms drive people inside",
    ),
    Situation(
        "waiting",
        PEOPLE,
        pose="standing",
        answers=dict(next="keep waiting", why="to wait for somebody", feel="bored"),
    ),
)
