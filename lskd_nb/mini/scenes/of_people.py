"""What follows for a person, from what is held, the face, the pose, and whom the person faces.

The more particular situations come first.
"""

from lskd_nb.mini.scenes.situation import Near, Situation
from lskd_nb.mini.scenes.world import ANIMALS, PEOPLE, THINGS

OF_PEOPLE = (
    # people with something in their hands
    Situation(
        "shelter",
        PEOPLE,
        held="umbrella",
        weather="rainy",
        answers=dict(next="walk on under the umbrella", why="to stay dry", feel="glad to be dry"),
        link="umbrellas keep the rain off",
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
        link="dogs love to fetch",
    ),
    Situation(
        "pass",
        PEOPLE,
        held="ball",
        near=Near(("child",)),
        answers=dict(
            next="pass the ball to the child", why="to play with the child", role="a patient friend"
        ),
        link="children love to play",
    ),
    Situation(
        "late game",
        PEOPLE,
        held="ball",
        time="night",
        answers=dict(
            next="carry the ball home", why="to play until late", role="a player in the dark"
        ),
        link="nobody can catch in the dark",
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
        "wet musician",
        PEOPLE,
        held="guitar",
        weather="rainy",
        answers=dict(
            next="play in the rain", why="to have the street alone", role="a wet musician"
        ),
    ),
    Situation(
        "serenade",
        PEOPLE,
        held="guitar",
        near=Near(("woman",)),
        answers=dict(next="sing a love song", why="to win a heart", role="an admirer with a song"),
        link="songs can win a heart",
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
        "storm angler",
        PEOPLE,
        held="rod",
        weather="rainy",
        answers=dict(
            next="pack up the rod", why="to get one last fish", before="waited in the rain"
        ),
        link="storms drive the fish away",
    ),
    Situation(
        "angler",
        PEOPLE,
        held="rod",
        answers=dict(next="pull out a fish", why="to catch dinner", before="put bait on the hook"),
    ),
    Situation(
        "cook for others",
        PEOPLE,
        held="pan",
        near=Near(("child",)),
        answers=dict(
            next="serve the eggs", why="to feed a hungry child", before="asked who is hungry"
        ),
        link="children are always hungry",
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
        "shooing",
        PEOPLE,
        held="broom",
        near=Near(ANIMALS),
        answers=dict(
            next="shoo the animal away", why="to keep the ground clean", role="a guard with a broom"
        ),
        link="animals make the ground dirty",
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
        "wet traveler",
        PEOPLE,
        held="suitcase",
        weather="rainy",
        answers=dict(
            next="look for a dry train", why="to travel to the sun", role="a traveler in the rain"
        ),
        link="people travel from bad weather to the sun",
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
        "offered bouquet",
        PEOPLE,
        held="flowers",
        near=Near(("woman",)),
        answers=dict(
            next="offer the flowers", why="to say sorry", before="had a quarrel with somebody"
        ),
        link="flowers can mend a quarrel",
    ),
    Situation(
        "dinner present",
        PEOPLE,
        held="flowers",
        time="night",
        answers=dict(
            next="go to dinner with flowers",
            why="to win a heart at dinner",
            before="was asked to dinner",
        ),
        link="every dinner needs a present",
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
        "storm photographer",
        PEOPLE,
        held="camera",
        weather="rainy",
        answers=dict(
            next="pack up the camera", why="to photograph the storm", role="a storm photographer"
        ),
    ),
    Situation(
        "wildlife",
        PEOPLE,
        held="camera",
        place="farm",
        answers=dict(
            next="photograph the animal",
            why="to show how animals live",
            role="a wildlife photographer",
        ),
    ),
    Situation(
        "night photographer",
        PEOPLE,
        held="camera",
        time="night",
        answers=dict(
            next="photograph the stars",
            why="to show how the night looks",
            role="a photographer of the dark",
        ),
        link="stars come out in the dark",
    ),
    Situation(
        "photographer",
        PEOPLE,
        held="camera",
        answers=dict(next="take a photo", why="to remember this moment", role="a photographer"),
    ),
    Situation(
        "wet book",
        PEOPLE,
        held="book",
        weather="rainy",
        answers=dict(
            next="put the book away", why="to keep the book dry", feel="sad about the wet book"
        ),
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
        "story time",
        PEOPLE,
        held="book",
        near=Near(("child",)),
        answers=dict(
            next="read a story to the child", why="to calm the child", feel="patient with the child"
        ),
        link="children love stories",
    ),
    Situation(
        "actor",
        PEOPLE,
        held="book",
        place="stage",
        answers=dict(
            next="read the lines aloud", why="to learn the part", feel="excited about the play"
        ),
    ),
    Situation(
        "reader",
        PEOPLE,
        held="book",
        answers=dict(next="turn the page", why="to enjoy a story", feel="lost in a story"),
    ),
    Situation(
        "party is over",
        PEOPLE,
        held="balloon",
        time="night",
        answers=dict(
            next="take the balloon home",
            why="to remember the party",
            before="was at a party until late",
        ),
        link="a party can last until night",
    ),
    Situation(
        "wet balloon",
        PEOPLE,
        held="balloon",
        weather="rainy",
        answers=dict(
            next="hide the balloon from the rain",
            why="to keep the balloon dry",
            before="was out in the rain",
        ),
    ),
    Situation(
        "shared balloon",
        PEOPLE,
        held="balloon",
        near=Near(("child",)),
        answers=dict(
            next="give the balloon to the child",
            why="to cheer up the child",
            before="blew up the balloon",
        ),
        link="children love balloons",
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
