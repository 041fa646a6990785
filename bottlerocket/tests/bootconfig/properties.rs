//! What holds for every text, every tree and every damage.

use nibs_bottlerocket::bootconfig::{
    BootSettings, Tree, check, compact, list, pack, parse, parse_bytes, render, unpack,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::texts;

proptest! {
    #[test]
    fn no_bytes_make_the_check_panic(bytes in vec(any::<u8>(), 0..256)) {
        let _ = check(&bytes);
        let _ = parse_bytes(&bytes);
    }

    #[test]
    fn no_text_makes_the_check_panic(text in texts::pieces()) {
        let _ = check(text.as_bytes());
        if let Ok(packed) = pack(&text) {
            prop_assert_eq!(unpack(&packed), Ok(text.as_str()));
            let _ = check(&packed);
        }
    }

    #[test]
    fn a_tree_comes_back_from_its_text(tree in texts::trees()) {
        let text = render(&tree).unwrap();
        let parsed = parse(&text).unwrap();
        prop_assert_eq!(&parsed.tree, &tree);
        prop_assert_eq!(parsed.warnings, vec![]);
        prop_assert_eq!(&parse(&compact(&tree)).unwrap().tree, &tree);
        prop_assert_eq!(list(&parsed.tree), list(&tree));
    }

    #[test]
    fn a_text_says_the_same_when_written_again(text in texts::statements()) {
        if let Ok(parsed) = parse(&text)
            && let Ok(again) = render(&parsed.tree)
        {
            prop_assert_eq!(parse(&again).unwrap().tree, parsed.tree);
        }
    }

    #[test]
    fn settings_come_back_from_their_tree(tree in texts::trees()) {
        let settings = BootSettings::from(&tree);
        let made = Tree::try_from(&settings).unwrap();
        prop_assert_eq!(BootSettings::from(&made), settings);
    }

    #[test]
    fn a_flipped_bit_is_never_another_text(
        text in "[ -~\n]{0,64}",
        initrd in vec(prop_oneof![Just(0), any::<u8>()], 0..128),
        place in any::<Index>(),
        bit in 0..8u32,
    ) {
        let mut data = initrd.clone();
        data.extend(pack(&text).unwrap());
        let place = initrd.len() + place.index(data.len() - initrd.len());
        data[place] ^= 1u8 << bit;
        let found = unpack(&data);
        prop_assert!(found.is_err() || found == Ok(text.as_str()), "{text:?} became {found:?}");
    }
}
